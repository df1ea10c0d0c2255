"""The policy of API Management: what is planted is found, and its refusals have the shape of the server's."""

import re
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import msgspec
import pytest

from infrastructure.checks.configuration import ROOT
from infrastructure.checks.gateway_policy import FILE, MODULE, filled, policy_problems
from serving import errors

TEMPLATE = (ROOT / "modules" / MODULE / FILE).read_text()
GUIDE = ROOT.parent / "docs" / "integrate.md"
REQUEST = "4bf92f35-77b3-4da6-a3ce-929d0e0e4736"
SERVER = {kind.name: kind for kind in errors.Problem.__subclasses__()}


def policy(template: str = TEMPLATE) -> Element:
    values = {"tenant_id": "t", "audience": "a", "caller": "c", "calls_a_minute": "600"}
    return ElementTree.fromstring(filled(template, values))  # noqa: S314 - our own file


def test_policy_checks_the_token_then_counts_its_application_then_signs_in():
    inbound = policy().find("inbound")
    assert [part.tag for part in inbound] == [
        "base", "validate-azure-ad-token", "set-variable", "rate-limit-by-key", "set-header", "set-header"
    ]  # fmt: skip
    token, caller, limit = inbound[1:4]
    assert token.get("tenant-id") == "t"
    assert [found.text for found in token.iter("application-id")] == ["c"]
    assert [found.text for found in token.iter("audience")] == ["a"]
    assert token.get("output-token-variable-name") in caller.get("value")
    assert re.findall(r'"(azp|appid)"', caller.get("value")) == ["azp", "appid"], "tokens of both versions"
    assert (limit.get("calls"), limit.get("counter-key")) == ("600", '@((string)context.Variables["caller"])')


def test_any_misspelt_element_or_attribute_is_found():
    count = 0
    for number, element in enumerate(policy().iter()):
        for name in (None, *element.keys()):
            planted = policy()
            at = [*planted.iter()][number]
            if name is None:
                at.tag = f"{at.tag}s"
            else:
                at.attrib = {f"{key}s" if key == name else key: value for key, value in at.attrib.items()}
            assert [*policy_problems(planted)], (element.tag, name)
            count += 1
    assert count > 100


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("<choose>", "<set-body>no</set-body><choose>", "set-body is not a policy that may stand in on-error"),
        ("context.Response.StatusCode == 401", "context.Response.StatusCod == 401", "has no member StatusCod"),
        ("context.RequestId", "context.Requestid", "context has no member Requestid"),
        ("TokenClaimNotFound", "TokenClaimMissing", "no error has the reason TokenClaimMissing"),
        ("(string)context.Variables[&quot;caller", "(string)context.Variables[&quot;calls", "sets the variable calls"),
        ("== &quot;backend&quot;)", "== &quot;backend&quot;", "brackets or quotes do not match"),
        ("== &quot;backend&quot;)", "== &quot;backend)", "brackets or quotes do not match"),
        ('exists-action="skip"', 'exists-action="keep"', "is 'keep'"),
        ('renewal-period="60"', 'renewal-period="3600"', "300 at most"),
        (' renewal-period="60"', "", "lacks the attribute renewal-period"),
        ("<backend>\n    <base />\n  </backend>", "", "and policies has"),
        ("<choose>", "<choose>no", "choose holds a text"),
        ("<otherwise>", "no<otherwise>", "a text stands after when"),
    ],
)  # fmt: skip
def test_planted_fault_is_named(old, new, says):
    assert old in TEMPLATE
    found = [*policy_problems(policy(TEMPLATE.replace(old, new, 1)))]
    assert [problem for problem in found if says in problem], found


def test_elements_in_another_order_are_found():
    planted = policy()
    token = planted.find("inbound/validate-azure-ad-token")
    token[:] = [*token][::-1]
    assert [problem for problem in policy_problems(planted) if "stand in another order" in problem]


REFUSALS = {
    # status and LastError of API Management's own pages on error handling: what the caller is told
    "no token": (401, "TokenNotPresent", "inbound", 401, "token-refused"),
    "expired": (401, "TokenExpired", "inbound", 401, "token-refused"),
    "another audience": (401, "TokenAudienceNotAllowed", "inbound", 401, "token-refused"),
    "no role": (401, "TokenClaimNotFound", "inbound", 403, "role-missing"),
    "another role": (401, "TokenClaimValueNotAllowed", "inbound", 403, "role-missing"),
    "too often": (429, "RateLimitExceeded", "inbound", 429, "too-many-calls"),
    "server away": (500, "BackendConnectionFailure", "backend", 503, "not-reachable"),
    "server slow": (504, "Timeout", "backend", 503, "not-reachable"),
    "expression fails": (500, "ExpressionValueEvaluationFailure", "inbound", 500, "internal-error"),
    "too large": (413, "RequestEntityTooLarge", "inbound", 413, "refused"),
}


def answered(status: int, reason: str, section: str) -> tuple[int, dict[str, str], dict[str, Any]]:
    """What section ``on-error`` makes of an error: status, headers, document."""
    known: dict[str, Any] = {
        "context.Response.StatusCode": status,
        "context.Response.StatusReason": "as it was",
        "context.LastError.Reason": reason,
        "context.LastError.Section": section,
        "context.RequestId.ToString()": REQUEST,
        'context.Variables["wait"].ToString()': "17",
    }
    for branch in policy().find("on-error/choose"):
        if branch.tag == "otherwise" or _holds(_code(branch.get("condition")), known):
            break
    (response,) = branch
    headers = {
        header.get("name"): str(_value(header.findtext("value"), known)) for header in response.iter("set-header")
    }
    pairs = re.findall(
        r'new JProperty\("(\w+)", (.+?)\)(?=, new JProperty|\)\.ToString\(\)\)$)', response.findtext("set-body")
    )
    document = {name: _value(f"@({value})", known) for name, value in pairs}
    return int(_value(response.find("set-status").get("code"), known)), headers, document


def _code(text: str) -> str:
    return text.removeprefix("@(").removesuffix(")")


def _holds(condition: str, known: dict[str, Any]) -> bool:
    """``a == b || c >= d``."""
    compare = {"==": lambda left, right: left == right, ">=": lambda left, right: left >= right}
    parts = [re.fullmatch(r"(\S+) (==|>=) (\S+)", part).groups() for part in condition.split(" || ")]
    return any(compare[how](_value(f"@({left})", known), _value(f"@({right})", known)) for left, how, right in parts)


def _value(text: str, known: dict[str, Any]) -> Any:
    """A literal, or an expression of what is known, of sums, and of one choice."""
    if not text.startswith("@("):
        return text
    code = _code(text)
    if " ? " in code:
        return _value(f"@({code.partition(' ? ')[2].partition(' : ')[0]})", known)
    parts = [
        part[1:-1] if part.startswith('"') else int(part) if part.isdigit() else known[part]
        for part in re.findall(r'"[^"]*"|[^+\s](?:[^+"]|"\w+")*[^+\s]|\d', code)
    ]
    return parts[0] if len(parts) == 1 else "".join(map(str, parts))


@pytest.mark.parametrize("case", REFUSALS)
def test_refusal_is_a_document_as_the_server_has_them(case):
    *error, status, kind = REFUSALS[case]
    told, headers, document = answered(*error)
    assert (told, document["status"], document["type"]) == (status, status, f"urn:scoring:problem:{kind}")
    read = msgspec.convert(document, errors.Document)
    assert msgspec.to_builtins(read) == document, "no member that the server's documents lack"
    assert headers["Content-Type"] == errors.MEDIA_TYPE
    assert headers["X-Request-ID"] == document["request_id"] == REQUEST
    assert "Retry-After" in headers or status not in (429, 503)
    if kind in SERVER:
        assert document["title"] == SERVER[kind].title
        assert kind == "refused" or status == SERVER[kind].status
        assert {name for name, _ in SERVER[kind].headers} <= headers.keys()
    else:
        assert f"`{kind}`" in GUIDE.read_text(), "the page for callers names what only API Management says"


def test_refusal_says_how_long_to_wait_and_why():
    assert answered(429, "RateLimitExceeded", "inbound")[1]["Retry-After"] == "17"
    assert "600 times a minute" in answered(429, "RateLimitExceeded", "inbound")[2]["detail"]
    assert "TokenExpired" in answered(401, "TokenExpired", "inbound")[2]["detail"]


def test_unchanged_policy_holds():
    assert [*policy_problems(policy())] == []
