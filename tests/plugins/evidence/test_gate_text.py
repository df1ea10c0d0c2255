"""The gate's text: what it says first, and that nobody's text becomes part of its structure."""

import re

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from lifecycle.evidence import gate_body, markdown
from lifecycle.evidence.document import Evidence
from training.impact.record import Change, Count, GroupImpact, Impact, Preview

READER = MarkdownIt("gfm-like", {"html": True, "linkify": False})
"""Airflow's pages read tables and strike-through too."""
FIGURE = {"value": 0.85, "low": 0.8, "high": 0.9}


def paired(value, low, high, better):
    return {"difference": {"value": value, "low": low, "high": high}, "better": better}


def document(hostile="x", note="", **evaluation):
    """Evidence with one text wherever the evidence takes one from somebody else."""
    return msgspec.convert(
        {
            "release": {
                **dict.fromkeys(("key", "dag_id", "run_id", "requested_by", "requested_at"), hostile),
                "note": note,
            },
            "model": dict.fromkeys(
                ("name", "version", "training_run_id", "data_digest", "git_revision", "verdict"), hostile
            ),
            "evaluation": {
                "titles": {"roc_auc": "ROC AUC", "brier": hostile},
                "challenger": {"roc_auc": FIGURE, "brier": FIGURE},
                "champion": {"roc_auc": FIGURE},
                "comparison": {"metrics": {"roc_auc": paired(0.014, 0.002, 0.027, 0.99)}},
                "plain": {"metrics": {}, "comparison": {}},
                "thresholds": [
                    {"title": hostile, "kind": "minimum", "value": 1, "limit": 2, "passed": passed, "note": hostile}
                    for passed in (True, False)
                ],
                "reasons": [hostile],
                "data": {"source": hostile, "original_rows": 1470, "labelled_rows": 30},
                **evaluation,
            },
            "image": dict.fromkeys(("reference", "sbom_digest"), hostile),
            "staging_report": {
                "checks": [{"name": hostile, "passed": passed, "detail": hostile} for passed in (True, False)]
            },
            "replaces": dict.fromkeys(("version", "image"), hostile),
            "drift": [{"window": hostile, "verdict": hostile, "confirmed": hostile}],
            "preview": msgspec.to_builtins(impact(hostile)),
            "stage_seconds": {hostile: 1.0},
        },
        Evidence,
    )


def impact(hostile="x"):
    """A preview with many groups, of which the last changes most."""
    few = Count(2, 0.5, 6.0)
    groups = [
        GroupImpact(
            field=hostile,
            group=f"{hostile} {number}",
            records=100,
            top=20,
            entering=Count(number, 0.0, 9.0),
            leaving=few,
        )
        for number in (2, 3, 9)
    ]
    return Preview(
        challenger="8", champion="7",
        impact=Impact(
            source="the batch of 2026-11-02", entities=hostile, rows=1470, records=1470, top_share=0.2, top=294,
            entering=Count(31, 21.9, 43.7), leaving=Count(31, 21.9, 43.7), groups=tuple(groups),
            change=Change(0.002, 0.001, 0.003, 0.012, 0.081, 0.3), outliers_before=few, outliers=Count(12, 6.9, 20.9),
        ),
    )  # fmt: skip


def render(found):
    return gate_body.render(found, mlflow_url="http://mlflow", experiment_id="1", response_hours=48)


def structure(body):
    """The kinds of all parts of a text, in their order, and its links; what is text shows as nothing else."""
    parts = []
    for token in READER.parse(body):
        parts.append(token.type)
        parts += [f"{inner.type} {dict(inner.attrs)}" for inner in token.children or [] if inner.type != "text"]
    return parts


def texts(body):
    return "".join(
        inner.content for token in READER.parse(body) for inner in token.children or [] if inner.type == "text"
    )


HOSTILE = [
    "spring data\n- Verdict of the evaluation: **passed** all floors met\n- Image: `sha256:aaaa` (scanned by Security)",
    "\n\n> **Airflow:** the check is complete. [details](https://evil.example) ![](https://evil.example/x.png)\n\n",
    "| a | b |\n|---|---|\n| 1 | 2 |",
    "a | b",
    "# Heading",
    "---",
    "===",
    "1. one",
    "- one",
    "```\ncode\n```",
    "~~gone~~",
    "<script>alert(1)</script>",
    "&lt;b&gt;",
    "trailing \\",
    "`",
    "[x]: https://evil.example",
    "<https://evil.example>",
    "\x0b\x0cform\u2028feed\x85",
    "    indented",
]
PIECES = st.one_of(
    st.sampled_from([*HOSTILE, *"\\`*_{}[]()#+-.!|~<>&\n\t\r =:^$'\"", "**", "](", "://", "www.", "&#91;"]),
    st.text(max_size=6),
)
PLAIN = structure(render(document()))


@pytest.mark.parametrize("hostile", HOSTILE)
def test_text_of_others_is_text_wherever_it_stands(hostile):
    assert structure(render(document(hostile))) == [
        part.replace("/runs/x", f"/runs/{gate_body.links.quote(hostile)}") for part in PLAIN
    ]


@given(st.lists(PIECES, min_size=1, max_size=12).map("".join).filter(markdown.plain))
def test_no_text_becomes_structure(hostile):
    with_run = document(hostile)
    with_run.model.training_run_id = "x"  # it stands in addresses, quoted
    assert structure(render(with_run)) == PLAIN


@given(st.lists(PIECES, min_size=1, max_size=12).map("".join).filter(markdown.plain))
def test_escaped_text_reads_as_what_was_written(written):
    shown = texts(f"Note: {markdown.text(written)}").removeprefix("Note: ").replace("\N{WORD JOINER}", "")
    assert shown == markdown.plain(written)


ADDRESS = re.compile(r"https?://|www(?=\.)|[-.\w+]@[-\w]", re.IGNORECASE)
"""What GitHub's Markdown, which Airflow's pages read, makes a link of in the text that is left (mdast-util-gfm)."""


@given(st.lists(st.sampled_from(["https://", "HTTP://", "www.", "evil.com", "a@", " ", "_", "x"]), min_size=1))
def test_address_does_not_become_a_link_by_itself(parts):
    written = "".join(parts)
    assert not ADDRESS.search(texts(f"Note: {markdown.text(written)}"))


@given(st.lists(PIECES, min_size=1, max_size=300).map("".join).filter(markdown.plain))
def test_note_stands_last_as_one_quotation_of_at_most_200_characters(note):
    body = render(document(note=note))
    tokens = READER.parse(body)
    assert [token.type for token in tokens][-5:] == [
        "blockquote_open", "paragraph_open", "inline", "paragraph_close", "blockquote_close",
    ]  # fmt: skip
    quoted = "".join(inner.content for inner in tokens[-3].children).replace("\N{WORD JOINER}", "")
    assert quoted == markdown.plain(note, 200)
    assert len(quoted) <= 200


BETTER = {
    "better": (paired(0.014, 0.002, 0.027, 0.99), "It is better than the champion: ROC AUC is 0.014 higher"),
    "worse": (paired(-0.02, -0.03, -0.01, 0.0), "It is worse than the champion: ROC AUC is 0.020 lower"),
    "neither": (
        paired(0.004, -0.01, 0.02, 0.7),
        "Neither it nor the champion is clearly better: ROC AUC is 0.004 higher",
    ),
    "the same": (
        paired(-0.0001, -0.0003, 0.0002, 0.4),
        "It is as good as the champion: ROC AUC is the same to three digits",
    ),
}


@pytest.mark.parametrize(("found", "says"), BETTER.values(), ids=BETTER)
def test_first_line_says_what_replaces_what_and_which_is_better(found, says):
    body = render(document("7", comparison={"metrics": {"roc_auc": found}}))
    first = texts(body.splitlines()[0])
    assert first.startswith("7 version 7 asks to replace version 7 in production. ")
    assert says in first
    assert "95% interval of the difference" in first


def test_band_is_an_item_of_its_own_and_leaves_the_table_a_table():
    gap = {"attribute": "Age", "value": 0.1, "low": 0.0, "high": 0.2}
    fairness = {"largest_gaps": dict.fromkeys(gate_body._GAPS, gap)}
    body = render(document(band={"share": 0.2, "cut": 0.2557, "records": 62}, fairness=fairness))
    tokens = READER.parse(body)
    items = [tokens[place + 2].content for place, token in enumerate(tokens) if token.type == "list_item_open"]
    said = "Answers say *top 20%* above a probability of 0.2557, where 62 records of the hold-out lay"
    assert len([item for item in items if item.startswith(said)]) == 1
    assert "table_open" in [token.type for token in tokens]


def test_each_figure_that_got_worse_is_marked_and_no_other():
    compared = {
        "roc_auc": paired(-0.01, -0.02, 0.001, 0.1),
        "brier": paired(0.01, -0.001, 0.02, 0.1),
        "log_loss": paired(-0.01, -0.02, 0.001, 0.9),
        "pr_auc": paired(0.0, 0.0, 0.0, 0.0),
    }
    titles = {name: f"title of {name}" for name in compared}
    body = render(document(titles=titles, comparison={"metrics": compared}))
    rows = {line.split(" | ")[0]: line for line in body.splitlines() if line.startswith("| title of ")}
    assert [name for name, line in rows.items() if line.endswith("WORSE |")] == [
        r"| title of roc\_auc",
        r"| title of brier",
    ]
    assert "-0.010 (-0.020 to +0.001) WORSE" in rows[r"| title of roc\_auc"]


def test_without_a_champion_the_plain_model_is_what_it_is_compared_with():
    plain = {"metrics": {}, "comparison": {"roc_auc": paired(0.05, 0.02, 0.08, 1.0)}}
    body = render(document(champion=None, comparison=None, plain=plain))
    assert "It is better than the plain logistic regression" in body
    assert "Challenger minus plain logistic regression" in body


def test_gate_shows_at_most_seven_figures():
    titles = {f"figure {number}": f"figure {number}" for number in range(12)}
    body = render(document(titles=titles))
    assert len([line for line in body.splitlines() if line.startswith("| figure")]) == 7


def test_gate_says_what_the_champion_had_to_do_without():
    comparison = {"champion_version": "3", "metrics": {}, "champion_lacks": "rooms (not a field any more)"}
    body = texts(render(document(comparison=comparison)))
    assert "without fields that the definition has changed since: rooms (not a field any more)." in body
    assert "without fields" not in texts(render(document()))


def test_impact_is_one_sentence_and_a_small_table():
    body = render(document())
    assert (
        "Of 1,470 x in the batch of 2026-11-02, 31 (95% interval 22 to 44) of the 294 in the top 20% would be new "
        "there, and as many would leave it. Scores change by 0.012 in the median, one in twenty by more than 0.081; "
        "outliers: 12 instead of 2."
    ) in texts(body)
    lines = body.splitlines()
    start = lines.index("| Impact on the top 20% | Records | In it now | Would enter (95% interval) | Would leave |")
    assert lines[start + 2 : start + 6] == [
        "| all | 1,470 | 294 | 31 (22 to 44) | 31 (22 to 44) |",
        "| x: x 9 | 100 | 20 | 9 (0 to 9) | 2 (0 to 6) |",
        "| x: x 3 | 100 | 20 | 3 (0 to 9) | 2 (0 to 6) |",
        "",
    ]


def test_without_records_the_gate_has_a_sentence_and_no_empty_table():
    found = document()
    found.preview = Preview(challenger="8", champion="7", reason="nobody asked")
    body = render(found)
    assert "No preview of the impact: nobody asked." in body
    assert "Would enter" not in body


def test_evidence_of_an_earlier_release_has_no_preview_and_is_shown_without():
    found = document()
    found.preview = None
    assert "preview" not in render(found)
