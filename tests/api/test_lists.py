"""Searching, sorting and paging of the compatible API's lists, and their query language (contract 1.4, 4.2 and 7.3)."""

from __future__ import annotations

import json
from urllib.parse import quote, quote_plus, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import QueryParams

from keyrelay.api.lists import MOST_RETURNED, NAMES, Listing, ListQuery, read
from keyrelay.api.problems import keyfactor_answer, own_answer
from keyrelay.errors import BadInput, BadSortField
from keyrelay.query_language import (
    MOST_CHARACTERS,
    MOST_COMPARISONS,
    MOST_DEPTH,
    AllOf,
    AnyOf,
    Comparison,
    Operator,
    parse,
)

FIELDS = {"Area": int, "Name": str, "Remote": bool, "SecuredAreaId": int, "Description": str}
PROVIDERS = Listing(FIELDS, sortable=None, sort_field="Name")
AUDIT = Listing({"Category": str, "ImmutableIdentifier": int}, frozenset({"Category", "Timestamp"}), "Id")
EVERYTHING = ListQuery(None, page=1, limit=50, sort_field="Name", descending=False)

ROWS = [
    {"Area": 1, "Name": "vault", "Remote": False, "SecuredAreaId": None, "Description": "HashiCorp"},
    {"Area": 1, "Name": "Local secrets", "Remote": False, "SecuredAreaId": 3, "Description": None},
    {"Area": 2, "Name": "azure", "Remote": True, "SecuredAreaId": None, "Description": "the Vault of Azure"},
    {"Area": 3, "Name": "KEYEXAMPLE\\jsmith", "Remote": True, "SecuredAreaId": 4, "Description": 'says "hello"'},
]


def query(raw: str, listing: Listing = PROVIDERS) -> ListQuery:
    return read(QueryParams(raw), listing)


def names(text: str) -> list[str]:
    return [row["Name"] for row in query(urlencode({"QueryString": text})).apply(ROWS, dict.get)]


def complaint(raw: str, listing: Listing = PROVIDERS) -> dict[str, str]:
    """What the compatible API answers."""
    with pytest.raises(BadInput) as refused:
        query(raw, listing)
    answer = keyfactor_answer(refused.value, lambda field: NAMES.get(field, field))
    assert answer.status == 400
    return json.loads(answer.body)


def wrong(text: str) -> str:
    return complaint(urlencode({"QueryString": text}))["Message"]


# --- Parameters ----------------------------------------------------------------------------------------------


def test_without_parameters_it_is_the_first_fifty_in_the_lists_own_order():
    assert query("") == EVERYTHING
    assert query("", AUDIT) == ListQuery(None, 1, 50, "Id", descending=False)


SEARCH = quote('name -eq "X"')


# Conformance line 19.
@pytest.mark.parametrize("prefix", ["", "pq.", "PQ.", "Pq."])
@pytest.mark.parametrize("spell", [str, str.lower, str.upper, lambda name: name[0].lower() + name[1:]])
def test_plain_and_prefixed_parameters_in_any_case_give_the_same(prefix, spell):
    values = dict(zip(NAMES.values(), (SEARCH, "2", "7", "aREA", "1"), strict=True))
    raw = "&".join(f"{prefix}{spell(name)}={value}" for name, value in values.items())
    asked = Comparison("Name", Operator.EQUAL, "X")
    assert query(raw) == ListQuery(asked, page=2, limit=7, sort_field="Area", descending=True)


def test_plain_and_prefixed_parameters_go_together():
    assert query("pq.returnLimit=7&PageReturned=2") == ListQuery(None, 2, 7, "Name", descending=False)


def test_the_query_that_kfutil_sends_finds_the_provider():
    assert [
        row["Name"] for row in query("pq.queryString=name%20-eq%20%22Local%20secrets%22").apply(ROWS, dict.get)
    ] == ["Local secrets"]
    assert query("pq.queryString=" + quote_plus('name -eq "A+B c"')) == query("queryString=name+-eq+%22A%2BB%20c%22")


@pytest.mark.parametrize(
    "raw",
    [
        "ReturnLimit=5&ReturnLimit=5",
        "ReturnLimit=5&returnlimit=6",
        "pq.ReturnLimit=5&ReturnLimit=6",
        "pq.ReturnLimit=5&PQ.returnLimit=5",
        "ReturnLimit=&pq.ReturnLimit=6",
    ],
)
def test_a_parameter_given_twice_is_refused(raw):
    assert "ReturnLimit is given more than once." in complaint(raw)["Message"]


def test_the_same_value_under_both_names_is_no_contradiction():
    assert query("pq.ReturnLimit=5&ReturnLimit=5").limit == 5


@pytest.mark.parametrize("raw", ["x=1&x=2", "pq.=1", "pq.pq.ReturnLimit=x", "collectionId=0&includeMetadata=true"])
def test_unknown_parameters_are_ignored(raw):
    assert query(raw) == EVERYTHING


@pytest.mark.parametrize("name", NAMES.values())
@pytest.mark.parametrize("empty", ["", "%20", "+"])
def test_an_empty_parameter_counts_as_missing(name, empty):
    assert query(f"{name}={empty}") == EVERYTHING


@pytest.mark.parametrize(
    ("raw", "page", "limit"),
    [
        ("PageReturned=0", 1, 50),  # a client that counts pages from 0
        ("PageReturned=2147483647&ReturnLimit=10000", 2**31 - 1, 10_000),
        ("PageReturned=%202%20&ReturnLimit=0007", 2, 7),
        ("ReturnLimit=0", 1, 0),
    ],
)
def test_numbers_are_strings_of_digits(raw, page, limit):
    asked = query(raw)
    assert (asked.page, asked.limit) == (page, limit)
    assert len(asked.apply(ROWS, dict.get)) == (min(limit, len(ROWS)) if page == 1 else 0)


@pytest.mark.parametrize("value", ["-1", "+1", "1.0", "1e2", "x", "true", "²", "٣", "1_0", "9" * 40, "9" * 5000, "0x1"])
@pytest.mark.parametrize("name", ["PageReturned", "ReturnLimit", "SortAscending"])
def test_what_is_not_such_a_number_is_refused_by_name(name, value):
    assert f"{name} must be " in complaint(f"{name}={quote(value)}")["Message"]


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        (f"ReturnLimit={MOST_RETURNED + 1}", f"ReturnLimit must be a whole number from 0 to {MOST_RETURNED}."),
        ("PageReturned=2147483648", "PageReturned must be a whole number from 0 to 2147483647."),
        ("SortAscending=2", "SortAscending must be 0 (ascending) or 1 (descending)."),
    ],
)
def test_a_number_beyond_its_bound_is_refused_and_never_cut(raw, told):
    assert told in complaint(raw)["Message"]


def test_everything_that_is_wrong_is_told_at_once():
    told = complaint("QueryString=x&PageReturned=x&ReturnLimit=-1&SortAscending=5")
    assert told["ErrorCode"] == "0xA0110010"
    for name in ("QueryString", "PageReturned", "ReturnLimit", "SortAscending"):
        assert name in told["Message"]


# --- Sorting and paging --------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["", "pq."])
def test_an_unknown_sort_field_is_refused_by_name_with_its_own_code(prefix):
    told = complaint(f"{prefix}SortField=Colour&{prefix}ReturnLimit=x")
    assert told["ErrorCode"] == "0xA011004A"
    assert 'SortField names "Colour"; this list can be sorted by Area, Description, Name' in told["Message"]
    assert "ReturnLimit must be" in told["Message"]


def test_a_list_is_sorted_by_its_sortable_fields_and_its_default_only():
    assert query("SortField=timestamp", AUDIT).sort_field == "Timestamp"
    assert query("SortField=id", AUDIT).sort_field == "Id"
    assert complaint("SortField=ImmutableIdentifier", AUDIT)["ErrorCode"] == "0xA011004A"


def test_our_own_api_names_the_sort_field_as_the_one_that_is_wrong():
    with pytest.raises(BadSortField) as refused:
        query("SortField={field}%0A" + "x" * 200)
    problem = json.loads(own_answer(refused.value, lambda field: field).body)
    assert problem["code"] == "bad_sort_field"
    assert [error["field"] for error in problem["errors"]] == ["sort_field"]
    assert len(problem["detail"]) < 200
    assert "\n" not in problem["detail"]
    assert problem["detail"].count("sort_field") == 1


def sorted_by(field: str, *, descending: bool = False) -> list[str]:
    asked = query(f"SortField={field}&SortAscending={int(descending)}")
    return [row["Name"] for row in asked.apply(ROWS, dict.get)]


def test_text_is_sorted_without_regard_to_case_and_what_is_missing_comes_first():
    assert sorted_by("Name") == ["azure", "KEYEXAMPLE\\jsmith", "Local secrets", "vault"]
    assert sorted_by("Description") == ["Local secrets", "vault", "KEYEXAMPLE\\jsmith", "azure"]
    assert sorted_by("SecuredAreaId") == ["vault", "azure", "Local secrets", "KEYEXAMPLE\\jsmith"]


def test_descending_turns_the_order_and_keeps_what_sorts_alike_as_it_came():
    assert sorted_by("Name", descending=True) == ["vault", "Local secrets", "KEYEXAMPLE\\jsmith", "azure"]
    assert sorted_by("Area") == ["vault", "Local secrets", "azure", "KEYEXAMPLE\\jsmith"]
    assert sorted_by("Area", descending=True) == ["KEYEXAMPLE\\jsmith", "azure", "vault", "Local secrets"]


def test_pages_put_together_are_the_whole_list():
    rows = [{"Name": f"n{number:03}"} for number in range(25)]
    pages = [query(f"ReturnLimit=10&PageReturned={page}").apply(iter(rows), dict.get) for page in (1, 2, 3, 4)]
    assert [len(page) for page in pages] == [10, 10, 5, 0]
    assert [row for page in pages for row in page] == rows


# --- What queries mean ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('Name -eq "VAULT"', ["vault"]),
        ("name -eq vault", ["vault"]),
        ("name -eq 'Local secrets'", ["Local secrets"]),
        ('NAME -NE "vault"', ["azure", "KEYEXAMPLE\\jsmith", "Local secrets"]),
        ('name -contains "SECRET"', ["Local secrets"]),
        ('name -notcontains "a"', []),
        ('name -startswith "key"', ["KEYEXAMPLE\\jsmith"]),
        ('name -endswith "T"', ["vault"]),
        ('name -eq ""', []),
        ("area -eq 1", ["Local secrets", "vault"]),
        ('area -eq "1"', ["Local secrets", "vault"]),  # as scripts send CertState -eq "6"
        ("area -ne 1", ["azure", "KEYEXAMPLE\\jsmith"]),
        ("area -gt 1 AND area -lt 3", ["azure"]),
        ("area -ge 2 AND area -le 2", ["azure"]),
        ("area -gt -1 AND area -eq 3", ["KEYEXAMPLE\\jsmith"]),
        ("remote -eq true", ["azure", "KEYEXAMPLE\\jsmith"]),
        ('Remote -eq "false"', ["Local secrets", "vault"]),  # as the Terraform provider sends TemplateDefault
        ("remote -ne TRUE", ["Local secrets", "vault"]),
        ("SecuredAreaId -eq NULL", ["azure", "vault"]),
        ("SecuredAreaId -ne null", ["KEYEXAMPLE\\jsmith", "Local secrets"]),
        ("SecuredAreaId -ne 3", ["azure", "KEYEXAMPLE\\jsmith", "vault"]),
        ("SecuredAreaId -gt 0", ["KEYEXAMPLE\\jsmith", "Local secrets"]),
        ("description -eq null", ["Local secrets"]),
        ('description -eq "null"', []),
        ('description -notcontains "vault"', ["KEYEXAMPLE\\jsmith", "Local secrets", "vault"]),
        ('description -contains ""', ["azure", "KEYEXAMPLE\\jsmith", "vault"]),
        ('(area -eq 1 OR area -eq 2) and remote -eq "false"', ["Local secrets", "vault"]),
        ("(area -eq 2 or area -eq 3) AND area -ne 3", ["azure"]),
        ("area -eq 2 or area -eq 3 AND area -ne 3", ["azure"]),
        ("area -eq 1 OR area -eq 2 AND area -eq 3", ["Local secrets", "vault"]),
        ("(((area -eq 1)))", ["Local secrets", "vault"]),
        ('(area -eq 1)AND(name -eq"vault")', ["vault"]),
        ("\tarea\n-eq  1 ", ["Local secrets", "vault"]),
    ],
)
def test_a_query_finds_what_it_says(text, found):
    assert names(text) == found


def test_case_is_disregarded_beyond_a_to_z():
    rows = [{"Name": "Straße"}, {"Name": "STRASSE"}, {"Name": "ΌΣΟΣ"}, {"Name": "Strase"}]
    assert query(urlencode({"QueryString": 'name -eq "strasse"'})).apply(rows, dict.get) == rows[:2]
    assert query(urlencode({"QueryString": 'name -endswith "ος"'})).apply(rows, dict.get) == [rows[2]]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (r'"a""b"', 'a"b'),
        (r'"a\"b"', 'a"b'),
        (r"'a''b'", "a'b"),
        (r"'a\'b'", "a'b"),
        ("\"a''b\"", "a''b"),
        (r"'a\"b'", r"a\"b"),
        (r'""""', '"'),
        (r'"\\"', "\\"),
        (r'"a\\b"', r"a\b"),
        (r'"DOMAIN\user"', r"DOMAIN\user"),
        (r'"%TODAY%"', "%TODAY%"),
        ("O'Brien", "O'Brien"),
        (r"C:\x", r"C:\x"),
        ("ünïcode", "ünïcode"),
        ('"a) OR (Name -ne null"', "a) OR (Name -ne null"),
    ],
)
def test_quotes_hold_any_text(written, meant):
    assert parse(f"name -eq {written}", FIELDS) == Comparison("Name", Operator.EQUAL, meant)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('name -eq "vault', "QueryString cannot be read: the quote at character 10 is never closed."),
        ('name -eq "ends with \\"', "the quote at character 10 is never closed"),
        ("colour -eq 1", "at character 1, a field of this list (Area, Name, Remote, SecuredAreaId, Description) is"),
        ('"name" -eq 1', "at character 1, a field (Area, "),
        ("NotAfter<=2026", 'and there is "NotAfter<=2026"'),
        ("name = x", "an operator for Name (-eq, -ne, -contains, -notcontains, -startswith, -endswith) is expected"),
        ("name", "at character 5, an operator for Name (-eq, "),
        ("area -contains 1", "at character 6, an operator for Area (-eq, -ne, -lt, -le, -gt, -ge) is"),
        ("remote -gt true", "an operator for Remote (-eq, -ne) is expected"),
        ("name -gt x", "an operator for Name (-eq, "),
        ("name -eq", "at character 9, a value for Name is expected, and it ends."),
        ("name -eq and name -eq x", 'a value for Name is expected, and there is "and"'),
        ("name -eq -eq x", 'a value for Name is expected, and there is "-eq"'),
        ("name -eq (x)", 'a value for Name is expected, and there is "("'),
        ("area -eq one", 'at character 10, a whole number for Area is expected, and there is "one"'),
        ("area -eq 1.5", "a whole number for Area"),
        ("area -eq 9223372036854775808", "a whole number for Area"),
        ("area -eq -9223372036854775809", "a whole number for Area"),
        ("area -eq ²", "a whole number for Area"),
        ("area -eq ٣", "a whole number for Area"),
        ("area -eq " + "9" * (MOST_CHARACTERS - 9), "a whole number for Area"),
        ("remote -eq 1", "true or false for Remote is expected"),
        ("area -gt null", "a value for Area (NULL goes with -eq and -ne) is expected"),
        ("name -contains NULL", "NULL goes with -eq and -ne"),
        ("name -eq Local secrets", "at character 16, AND, OR or the end (text with spaces needs quotes) is expected"),
        ('name -eq "x" name -eq "y"', "at character 14, AND, OR or the end"),
        ('name -eq "x")', "at character 13, AND, OR or the end"),
        ('(name -eq "x"', "at character 14, AND, OR or a closing parenthesis"),
        ("name -eq x AND", "at character 15, a field (Area, "),
        ("AND name -eq x", "at character 1, a field (Area, "),
        ("()", "at character 2, a field (Area, "),
        ('""', "at character 1, a field (Area, "),
        ("name -eq a\0b", "QueryString holds a NUL character."),
    ],
)  # fmt: skip
def test_a_query_that_cannot_be_read_is_refused_with_the_place_and_what_belongs_there(text, told):
    assert told in wrong(text)


def test_an_unknown_field_has_a_code_of_its_own():
    with pytest.raises(BadInput) as refused:
        parse("colour -eq 1", FIELDS)
    assert [violation.code for violation in refused.value.violations] == ["unknown_field"]


def test_messages_repeat_only_a_short_and_printable_piece_of_the_query():
    told = wrong("{field}\x1b[2J\u202e" + "x" * 3000 + " -eq 1")
    assert len(told) < 400
    assert told.isprintable()
    assert told.count("QueryString") == 1


# --- Bounds --------------------------------------------------------------------------------------------------


def test_a_query_has_a_bound_of_length():
    assert parse('name -eq "' + "x" * (MOST_CHARACTERS - 11) + '"', FIELDS)
    assert "QueryString has more than 4000 characters." in wrong('name -eq "' + "x" * (MOST_CHARACTERS - 10) + '"')
    assert "more than 4000 characters" in wrong("(" * 1_000_000)


def test_a_query_has_a_bound_of_comparisons():
    assert parse(" OR ".join(["area -eq 1"] * MOST_COMPARISONS), FIELDS)
    assert "QueryString has more than 100 comparisons." in wrong(" OR ".join(["area -eq 1"] * (MOST_COMPARISONS + 1)))


def test_a_query_has_a_bound_of_depth():
    assert parse("(" * MOST_DEPTH + "area -eq 1" + ")" * MOST_DEPTH, FIELDS)
    assert "QueryString has more than 20 parentheses within each other." in wrong("(" * (MOST_DEPTH + 1) + "area -eq 1")
    assert "more than 20 parentheses" in wrong("(" * MOST_CHARACTERS)


# --- For any query -------------------------------------------------------------------------------------------

PIECES = [*FIELDS, *Operator, "AND", "or", "NULL", "true", "1", "-7", '"x y"', "'", '"', "\\", "(", ")", " ", "\t", "é"]
SCRAPS = st.builds(str.join, st.sampled_from(["", " "]), st.lists(st.sampled_from(PIECES), max_size=30))


def outcome(ask, *arguments):
    """What comes of asking, or else what is wrong with it."""
    try:
        return ask(*arguments), ()
    except BadInput as refused:
        return None, refused.violations


@given(st.text() | SCRAPS)
def test_whatever_is_asked_is_understood_or_refused(text):
    condition, violations = outcome(parse, text, FIELDS)
    assert {violation.field for violation in violations} <= {"query_string"}
    assert (condition is None) == bool(violations or not text.strip())
    ListQuery(condition, 1, 50, "Name", descending=False).apply(ROWS, dict.get)


PARAMETER = st.tuples(
    st.builds(str.__add__, st.sampled_from(["", "pq.", "PQ."]), st.sampled_from([*NAMES.values(), "x"])),
    st.text() | SCRAPS | st.integers().map(str),
)


@given(st.lists(PARAMETER, max_size=6))
def test_whatever_the_parameters_are_they_are_understood_or_refused(parameters):
    asked, violations = outcome(read, QueryParams(parameters), PROVIDERS)
    assert {violation.field for violation in violations} <= NAMES.keys()
    assert (asked is None) == bool(violations)
    if asked is not None:
        assert 1 <= asked.page < 2**31
        assert 0 <= asked.limit <= MOST_RETURNED
        assert asked.sort_field in FIELDS


WORDS = st.text("aAbBß\"'\\() é", max_size=4)
EQUALITY = [Operator.EQUAL, Operator.NOT_EQUAL]
IN_TEXT = [Operator.CONTAINS, Operator.NOT_CONTAINS, Operator.STARTS_WITH, Operator.ENDS_WITH]
ORDER = [Operator.LESS, Operator.LESS_OR_EQUAL, Operator.GREATER, Operator.GREATER_OR_EQUAL]
NUMBERS = st.integers(-3, 3) | st.integers(-(2**63), 2**63 - 1)


def comparisons(names: list[str], operators: list[Operator], values: st.SearchStrategy) -> st.SearchStrategy:
    return st.builds(Comparison, st.sampled_from(names), st.sampled_from(operators), values)


SINGLE = st.one_of(
    comparisons(list(FIELDS), EQUALITY, st.none()),
    comparisons(["Name", "Description"], EQUALITY + IN_TEXT, WORDS),
    comparisons(["Area", "SecuredAreaId"], EQUALITY + ORDER, NUMBERS),
    comparisons(["Remote"], EQUALITY, st.booleans()),
)
CONDITIONS = st.recursive(
    SINGLE,
    lambda inner: st.builds(
        lambda kind, parts: kind(tuple(parts)), st.sampled_from([AllOf, AnyOf]), st.lists(inner, min_size=2, max_size=4)
    ),
    max_leaves=12,
)


def written(condition) -> str:
    match condition:
        case Comparison(field, comparing, None):
            return f"{field} {comparing} NULL"
        case Comparison(field, comparing, str(text)):
            escaped = text.replace("\\", "\\\\").replace('"', '""')
            return f'{field} {comparing} "{escaped}"'
        case Comparison(field, comparing, value):
            return f"{field} {comparing} {value}"
        case AllOf(parts):
            return " AND ".join(f"({written(part)})" for part in parts)
        case AnyOf(parts):
            return " OR ".join(written(part) if isinstance(part, AllOf) else f"({written(part)})" for part in parts)


@given(CONDITIONS)
def test_a_condition_written_down_is_read_as_itself(condition):
    assert parse(written(condition), FIELDS) == condition


def meets(condition, row) -> bool:
    """The same, naively."""
    if isinstance(condition, AllOf):
        return all(meets(part, row) for part in condition.conditions)
    if isinstance(condition, AnyOf):
        return any(meets(part, row) for part in condition.conditions)
    have, wanted = row[condition.field], condition.value
    have, wanted = (each.casefold() if isinstance(each, str) else each for each in (have, wanted))
    if condition.operator in EQUALITY:
        return (have == wanted) == (condition.operator is Operator.EQUAL)
    if have is None:
        return condition.operator is Operator.NOT_CONTAINS
    return {
        Operator.CONTAINS: lambda: have.find(wanted) >= 0,
        Operator.NOT_CONTAINS: lambda: have.find(wanted) < 0,
        Operator.STARTS_WITH: lambda: have[: len(wanted)] == wanted,
        Operator.ENDS_WITH: lambda: have[::-1][: len(wanted)] == wanted[::-1],
        Operator.LESS: lambda: wanted - have > 0,
        Operator.LESS_OR_EQUAL: lambda: wanted - have >= 0,
        Operator.GREATER: lambda: have - wanted > 0,
        Operator.GREATER_OR_EQUAL: lambda: have - wanted >= 0,
    }[condition.operator]()


TABLES = st.lists(
    st.fixed_dictionaries(
        {
            "Area": st.integers(-3, 3),
            "Name": WORDS,
            "Remote": st.booleans(),
            "SecuredAreaId": st.none() | st.integers(-3, 3),
            "Description": st.none() | WORDS,
        }
    ),
    max_size=12,
)


def insertion_sorted(rows, field, *, descending):
    def before(left, right) -> bool:
        left, right = (each.casefold() if isinstance(each, str) else each for each in (left[field], right[field]))
        if descending:
            left, right = right, left
        return right is not None and (left is None or left < right)

    ordered = []
    for row in rows:
        place = len(ordered)
        while place and before(row, ordered[place - 1]):
            place -= 1
        ordered.insert(place, row)
    return ordered


ASKED = st.builds(
    ListQuery,
    condition=st.none() | CONDITIONS,
    page=st.integers(1, 4),
    limit=st.integers(0, 5),
    sort_field=st.sampled_from(list(FIELDS)),
    descending=st.booleans(),
)


@given(TABLES, ASKED)
def test_a_page_is_what_a_naive_search_finds(rows, asked):
    found = [row for row in rows if asked.condition is None or meets(asked.condition, row)]
    ordered = insertion_sorted(found, asked.sort_field, descending=asked.descending)
    wanted = [row for number, row in enumerate(ordered) if asked.limit and number // asked.limit == asked.page - 1]
    assert [id(row) for row in asked.apply(rows, dict.get)] == [id(row) for row in wanted]
