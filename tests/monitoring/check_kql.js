// Check KQL files with Microsoft's own language service: node check_kql.js MODULES FILE...
"use strict";
const fs = require("fs");
const path = require("path");
const [modules, ...files] = process.argv.slice(2);
const service = path.join(modules, "@kusto/language-service-next");
require(path.join(service, "bridge.min.js"));
require(path.join(service, "Kusto.Language.Bridge.min.js"));
const { Symbols, KustoCode, GlobalState } = Kusto.Language;

const table = (name, columns) => Symbols.TableSymbol.From(columns).WithName(name);
const tables = [
  table("ContainerLogV2", "(TimeGenerated:datetime, Computer:string, ContainerId:string, ContainerName:string, " +
    "PodName:string, PodNamespace:string, LogMessage:dynamic, LogSource:string, KubernetesMetadata:dynamic, LogLevel:string)"),
  table("KubePodInventory", "(TimeGenerated:datetime, Namespace:string, Name:string, PodStatus:string)"),
  // Application Insights: what both tables have of the spans of a trace.
  ...["AppRequests", "AppDependencies"].map((name) => table(name, "(TimeGenerated:datetime, OperationId:string, Id:string, " +
    "ParentId:string, Name:string, AppRoleName:string, Success:bool, ResultCode:string, DurationMs:real, Properties:dynamic)")),
];
// The bridge numbers its overloaded constructors; the one that takes (name, tables) is the one that keeps them.
const database = Object.keys(Symbols.DatabaseSymbol)
  .filter((key) => /^(\$?ctor\d*)$/.test(key))
  .map((key) => { try { return new Symbols.DatabaseSymbol[key]("workspace", tables); } catch { return null; } })
  .find((made) => made && made.Tables && made.Tables.Count === tables.length);

const globals = GlobalState.Default.WithDatabase(database);
for (const file of files) {
  const found = KustoCode.ParseAndAnalyze(fs.readFileSync(file, "utf8"), globals).GetDiagnostics();
  for (let index = 0; index < found.Count; index++) {
    const fault = found.getItem(index);
    console.log(`${path.basename(file)}, character ${fault.Start}: ${fault.Message}`);
    process.exitCode = 1;
  }
  if (!found.Count) console.log(`${path.basename(file)}: no fault`);
}
