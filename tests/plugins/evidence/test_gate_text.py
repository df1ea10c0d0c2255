"""The gate's text: what it says first, and that nobody's text becomes part of its structure."""

import re
from urllib.parse import quote

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from lifecycle.evidence import document as evidence
from lifecycle.evidence import gate_body, headline, markdown
from lifecycle.evidence.document import Evidence, Signed
from tests.support.image_names import image
from training.impact.record import Change, Count, GroupImpact, Impact, Preview
from training.signing.keys import Signer

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
            "image": {
                **dict.fromkeys(("reference", "sbom_digest"), hostile),
                "scan": scan(hostile),
                "signed_by": {what: {"signer": hostile, "key": hostile} for what in ("bundle", "image")},
            },
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


def scan(hostile):
    """A scan with a fault whose names somebody else has written."""
    fault = {**dict.fromkeys(("id", "package", "version", "fixed"), hostile), "severity": "HIGH"}
    return {"packages": 24, "advisories": hostile, "faults": [fault]}


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
            entering=Count(31, 21.9, 43.7), leaving=Count(31, 21.9, 43.7), groups=groups,
            change=Change(0.002, 0.001, 0.003, 0.012, 0.081, 0.3), outliers_before=few, outliers=Count(12, 6.9, 20.9),
        ),
    )  # fmt: skip


def render(found):
    return gate_body.render(found, mlflow_url="http://mlflow", airflow_url="http://airflow", experiment_id="1")


@pytest.mark.parametrize(
    ("signed", "said"),
    [
        (("bundle", "image"), None),
        (("bundle",), "Not signed: image."),
        (("image",), "Not signed: bundle."),
        ((), "Not signed: bundle, image."),
    ],
)
def test_what_was_let_through_unsigned_is_named_and_nothing_otherwise(signed, said):
    found = document()
    by = {what: Signer("builds", "k") if what in signed else None for what in ("bundle", "image")}
    built = msgspec.structs.replace(found.image, signed_by=Signed(**by))
    body = render(msgspec.structs.replace(found, image=built))
    assert ("Not signed" in body) == bool(said)
    assert (said or "") in body


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


def named(hostile):
    """As ``document``, with plain ids: they stand in addresses, quoted."""
    found = document(hostile)
    found.model.training_run_id = found.release.key = "x"
    return found


@pytest.mark.parametrize("hostile", HOSTILE)
def test_text_of_others_is_text_wherever_it_stands(hostile):
    assert structure(render(named(hostile))) == PLAIN


@pytest.mark.parametrize("hostile", HOSTILE)
def test_ids_are_quoted_in_addresses(hostile):
    assert f"/lifecycle/evidence//{quote(hostile)}/{quote(hostile)})" in render(document(hostile))


@given(st.lists(PIECES, min_size=1, max_size=12).map("".join).filter(markdown.plain))
def test_no_text_becomes_structure(hostile):
    assert structure(render(named(hostile))) == PLAIN


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
    assert quoted == f"Note: {markdown.plain(note, 200)}"
    assert len(markdown.plain(note, 200)) <= 200


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
    assert re.search(r"\(95% [+-]0.\d{3} to [+-]0.\d{3}\)", first)


def table_of(body):
    """Cells of the text's first table by the first cell of their row, without the heads."""
    lines = [line.strip("| ").split(" | ") for line in body.splitlines() if line.startswith("|")]
    return {
        texts(cells[0]): [texts(cell).replace("\N{NO-BREAK SPACE}", " ") for cell in cells[1:]] for cells in lines[2:]
    }


LIMITS = [
    {"name": "minimum_roc_auc", "title": "ROC AUC", "kind": "minimum", "value": 0.85, "limit": 0.7, "passed": True},
    {
        "name": "minimum_roc_auc_low",
        "title": "low end",
        "kind": "minimum",
        "value": 0.8,
        "limit": 0.82,
        "passed": False,
    },
    {
        "name": "maximum_latency_ms",
        "title": "Milliseconds",
        "kind": "maximum",
        "value": 7.2,
        "limit": 5,
        "passed": False,
    },
]


def test_each_figure_that_got_worse_is_marked_and_no_other():
    compared = {
        "roc_auc": paired(-0.01, -0.02, 0.001, 0.1),
        "brier": paired(0.01, -0.001, 0.02, 0.1),
        "log_loss": paired(-0.01, -0.02, 0.001, 0.9),
        "pr_auc": paired(0.0, 0.0, 0.0, 0.0),
    }
    titles = {name: f"title of {name}" for name in compared}
    body = render(document(titles=titles, comparison={"metrics": compared}, thresholds=LIMITS))
    rows = table_of(body)
    assert [name for name, cells in rows.items() if cells[2].endswith("WORSE")] == [
        "title of roc_auc",
        "title of brier",
    ]
    assert rows["title of roc_auc"] == [
        "0.850", "0.850", "-0.010 (-0.020 to +0.001) WORSE", "≥ 0.7, low end ≥ 0.82 MISSED",
    ]  # fmt: skip
    assert rows["Milliseconds"] == ["-", "7.2", "-", "≤ 5 MISSED"]
    assert "2 of 4 figures got worse, none of them clearly." in texts(body)


def test_difference_in_favour_is_not_called_worse_though_most_resamples_lean_the_other_way():
    compared = {"roc_auc": paired(0.016, -0.041, 0.041, 0.3), "brier": paired(-0.002, -0.015, 0.019, 0.48)}
    compared = {name: {**found, "worse": name == "brier"} for name, found in compared.items()}
    body = render(document(titles=dict.fromkeys(compared, "a figure"), comparison={"metrics": compared}))
    assert body.count("WORSE") == 1
    assert "1 of 2 figures got worse, none of them clearly." in texts(body)


def test_first_paragraph_says_what_is_unusual_and_until_when_an_answer_counts():
    found = document(thresholds=LIMITS, verdict="failed")
    found.answer_by = "2026-11-27T05:51:12+00:00"
    first = texts(render(found).splitlines()[0])
    assert "Unusual: low end is 0.8, which misses the limit of 0.82; Milliseconds is 7.2," in first
    assert "x failed in staging (x)" in first
    assert "drift is confirmed for x" in first
    assert first.endswith("Without an answer by 2026-11-27 05:51 UTC this release is rejected.")


def test_first_figure_of_the_evaluation_stays_the_first_in_evidence_that_was_stored():
    """Stored evidence is sorted: the gate spoke of ROC AUC, and a later try and the pages of the Brier score."""
    compared = {"roc_auc": paired(0.014, 0.002, 0.027, 0.99), "brier": paired(-0.01, -0.02, -0.001, 0.99)}
    titles = {"roc_auc": "ROC AUC", "brier": "Brier score"}
    found = document(titles=titles, figures=["roc_auc", "brier"], comparison={"metrics": compared})
    found.image.reference = found.replaces.image = image("aa")
    stored = evidence.decode(evidence.encode(found))
    assert render(stored) == render(found)
    assert "ROC AUC is 0.014 higher" in str(headline.headline(stored))


def test_version_that_runs_already_is_not_told_to_be_compared_with_itself():
    found = document(comparison=None)
    assert "train again to compare them" not in texts(render(found)), "version x in place of version x"
    found.replaces.version = "y"
    assert "train again to compare them" in texts(render(found))


def test_release_with_nothing_unusual_says_so():
    found = document(thresholds=[], comparison={"champion_version": "x", "metrics": {}})
    found.staging_report, found.drift, found.model.verdict = {"checks": []}, [], "passed"
    assert "Nothing is unusual." in texts(render(found))


def test_without_a_champion_the_plain_model_is_what_it_is_compared_with():
    plain = {"metrics": {}, "comparison": {"roc_auc": paired(0.05, 0.02, 0.08, 1.0)}}
    body = render(document(champion=None, comparison=None, plain=plain))
    assert "It is better than the plain logistic regression" in body
    assert "| Figure | Plain logistic regression | This version |" in body.replace("\N{NO-BREAK SPACE}", " ")


FIGURES = st.fixed_dictionaries(
    {"worse": st.booleans(), "clear": st.booleans(), "limit": st.sampled_from([None, True, False])}
)


@given(st.lists(FIGURES, min_size=1, max_size=14))
def test_gate_shows_at_most_three_figures_and_never_hides_a_graver_one_for_another(figures):
    titles = {f"figure {number}": f"figure {number}" for number in range(len(figures))}
    compared, limits = {}, []
    for number, figure in enumerate(figures):
        size = -0.01 if figure["worse"] else 0.01
        far = 0.005 if figure["clear"] else 0.02
        compared[f"figure {number}"] = paired(size, size - far, size + far, 0.1 if figure["worse"] else 0.9)
        if figure["limit"] is not None:
            limits.append({"name": f"minimum_figure {number}", "title": "t", "kind": "minimum", "value": 1, "limit": 2,
                           "passed": figure["limit"]})  # fmt: skip
    rows = gate_body.decisive(
        document(titles=titles, comparison={"metrics": compared}, thresholds=limits).evaluation, "7"
    ).rows
    shown = [int(row[0].removeprefix("figure ")) for row in rows]
    assert len(shown) == min(gate_body.ROWS, len(figures))
    assert shown == sorted(shown)

    def grave(figure):
        return figure["limit"] is False or (figure["worse"] and figure["clear"])

    if hidden := set(range(len(figures))) - set(shown):
        assert not any(grave(figures[number]) for number in hidden) or all(grave(figures[number]) for number in shown)


FORECASTS = {
    "titles": {"wape": "WAPE", "bias": "Bias", "rmsse": "RMSSE", "pinball": "Pinball loss"},
    "challenger": dict.fromkeys(("wape", "bias", "rmsse", "pinball"), FIGURE),
    "champion": None,
    "comparison": None,
    "plain": {"title": "Seasonal naive", "metrics": {"wape": FIGURE},
              "comparison": {"wape": paired(-0.1, -0.12, -0.08, 1.0)}},
    "thresholds": [{"name": "maximum_wape", "title": "WAPE", "kind": "maximum", "value": 0.2, "limit": 0.6,
                    "passed": True, "note": ""}],
    "data": {"description": "sales.csv: 900 rows"},
    "reasons": [],
}  # fmt: skip
"""An evaluation of forecasts, but for what it says beside its figures."""


LETTERS = st.characters(categories=("L", "N"), exclude_characters="wW")
"""Nothing that Markdown or an address (www) has to be kept out of: that takes characters which nobody sees."""


def lines_at_the_gate(body):
    """How many lines of 117 characters a text takes on Airflow's page, a row of a table for one and a half."""
    rows = [line for line in body.splitlines() if line and "---" not in line]
    return sum(1.5 if line.startswith("|") else -(-len(line) // 117) for line in rows)


@given(
    st.lists(st.text(LETTERS, min_size=1, max_size=90), max_size=4),
    st.lists(st.text(LETTERS, max_size=200), max_size=3),
)
def test_what_an_evaluation_says_beside_its_figures_takes_the_place_of_one_and_no_more(facts, told):
    """Whatever series are called, and however many there are: *Approve* stays where it is."""
    tables = [{"title": "t", "heads": ["a"], "rows": [["1"]] * 13, "gate": sentence} for sentence in told]
    said, silent = render(document(**FORECASTS, facts=facts, tables=tables)), render(document(**FORECASTS))
    assert lines_at_the_gate(said) <= lines_at_the_gate(silent) + 1.5
    assert said.count("\n|") == silent.count("\n|") - bool(facts or "".join(told))


def test_gate_says_what_the_champion_had_to_do_without():
    comparison = {"champion_version": "3", "metrics": {}, "champion_lacks": "rooms (not a field any more)"}
    body = texts(render(document(comparison=comparison)))
    assert "without fields that the definition has changed since: rooms (not a field any more)." in body
    assert "without fields" not in texts(render(document()))


def test_impact_is_one_line_and_its_table_has_the_groups_that_change_most_first():
    assert (
        "Impact: in the batch of 2026-11-02 (1,470 x), 31 (95% 22 to 44) of the 294 in the top 20% would be others. "
        "Scores move by 0.012 in the median, outliers are 12 instead of 2. x x 9 changes most: 9 enter, 2 leave."
    ) in texts(render(document()))
    assert gate_body.impact_table(impact().impact).rows == [
        ["all", "1,470", "294", "31 (22 to 44)", "31 (22 to 44)"],
        ["x: x 9", "100", "20", "9 (0 to 9)", "2 (0 to 6)"],
        ["x: x 3", "100", "20", "3 (0 to 9)", "2 (0 to 6)"],
        ["x: x 2", "100", "20", "2 (0 to 9)", "2 (0 to 6)"],
    ]


def test_without_records_the_gate_has_a_sentence_and_no_empty_table():
    found = document()
    found.preview = Preview(challenger="8", champion="7", reason="nobody asked")
    body = render(found)
    assert "- Impact: no preview, because nobody asked." in body


def test_evidence_of_an_earlier_release_has_no_preview_and_is_shown_without():
    found = document()
    found.preview = None
    assert "Impact" not in render(found)
