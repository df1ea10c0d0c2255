// The page works without this file. It follows Airflow's light or dark switch, and gets links out of the
// frame that Airflow shows the page in: that frame is sandboxed without pop-ups and top navigation.
"use strict";

function followTheme() {
  const theme = localStorage.getItem("theme"); // where Airflow's interface keeps it: light, dark or system
  document.documentElement.dataset.theme = theme === "light" || theme === "dark" ? theme : "";
}
followTheme();
addEventListener("storage", followTheme);

document.addEventListener("click", (event) => {
  const link = event.target.closest('a[href]:not([href^="#"], [href^="?"])'); // those stay on the page
  if (!link || window.parent === window) return;
  event.preventDefault();
  const outside = window.parent.document.createElement("a");
  outside.href = link.href.baseVal ?? link.href; // an SVG link's address is wrapped
  outside.target = "_blank";
  outside.rel = "noopener noreferrer";
  outside.click();
});
