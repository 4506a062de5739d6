"""Routes as operators write them, from Momentum's days to ours (interfaces.md 2 "Routes")."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from momentum_push.delivery.routes import Route, environment_of, parse_routes
from momentum_push.errors import Place

PLACE = Place("push.conf", 12, 3)
API = "api.push.apple.com"


@pytest.mark.parametrize(
    ("text", "route"),
    [
        ("api.push.apple.com", Route(API, 443)),
        ("API.Push.Apple.com.", Route(API, 443)),
        ("apn://api.push.apple.com", Route(API, 443)),
        ("apn://api.push.apple.com/", Route(API, 443)),
        ("https://api.push.apple.com:2197", Route(API, 2197)),
        ("http://api.push.apple.com?port=2197", Route(API, 2197)),
        ("apn://api.push.apple.com:2197?port=2197", Route(API, 2197)),
        ("localhost:40123", Route("localhost", 40123)),
        ("127.0.0.1", Route("127.0.0.1", 443)),
        ("127.0.0.1:2195", Route("127.0.0.1", 2195)),
        ("[2001:DB8::7]:2197", Route("2001:db8::7", 2197)),
        ("2001:db8::7", Route("2001:db8::7", 443)),
        ("2001:db8::7?port=99", Route("2001:db8::7", 99)),
        ("apn://relay.example?pref=10&ttl=60&type=a", Route("relay.example", 443, 10)),
        ("apn://127.0.0.1:99?verify_name=api.push.apple.com", Route("127.0.0.1", 99, 0, API)),
    ],
)
def test_routes_are_read_in_every_form(text: str, route: Route) -> None:
    assert parse_routes([text], PLACE) == ([route], [])


@pytest.mark.parametrize(
    ("text", "route", "warnings"),
    [
        ("apn://gateway.push.apple.com?port=2195", Route(API), 2),
        ("gateway.sandbox.push.apple.com", Route("api.sandbox.push.apple.com"), 1),
        ("api.push.apple.com:2196", Route(API), 1),
    ],
)
def test_what_the_binary_service_left_behind_is_replaced_with_a_warning(
    text: str, route: Route, warnings: int
) -> None:
    routes, problems = parse_routes([text], PLACE)
    assert routes == [route]
    assert len(problems) == warnings
    assert all(problem.is_warning and problem.place == PLACE for problem in problems)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("__mx__", "mail routing"),
        ("", "no route"),
        ("a b", "no route"),
        ("smtp://api.push.apple.com", 'unknown scheme "smtp"'),
        ("apn://api.push.apple.com/3/device", "only a host"),
        ("apn://user@api.push.apple.com", "only a host"),
        ("apn://api.push.apple.com?colour=red", 'unknown parameter "colour"'),
        ("apn://api.push.apple.com?port=1&port=2", "stands twice"),
        ("apn://api.push.apple.com:1?port=2", "two different ports"),
        ("api.push.apple.com:0", "no number from 1 to 65535"),
        ("api.push.apple.com:", "no number"),
        ("api.push.apple.com:99999", "no number"),
        ("api.push.apple.com:0000000004430000", "no number"),
        ("apn://?port=1", "no host"),
        ("apn://[::1", "cannot be read"),
        ("apn://[::g]", "cannot be read"),
        ("-bad-.example", "no host name"),
        ("1.2.3", "no IPv4 address"),
        ("apn://h?pref=low", "pref"),
        ("apn://h?verify_name=a_.-x", "no host name"),
    ],
)
def test_what_is_no_route_is_an_error_that_names_it_and_its_place(text: str, what: str) -> None:
    routes, problems = parse_routes([text], PLACE)
    assert routes == []
    assert len(problems) == 1
    assert what in problems[0].what
    assert problems[0].fix
    assert (problems[0].place, problems[0].is_warning) == (PLACE, False)


def test_no_routes_at_all_is_an_error_that_says_what_to_add() -> None:
    routes, [problem] = parse_routes([], PLACE)
    assert routes == []
    assert "apn://api.push.apple.com" in problem.fix


def test_routes_come_by_preference_and_once_each() -> None:
    routes, problems = parse_routes(["b?pref=2", "a?pref=1", "c", "b?pref=2"], PLACE)
    assert [route.host for route in routes] == ["c", "a", "b"]
    assert problems == []


def test_one_bad_route_does_not_hide_the_good_ones() -> None:
    routes, problems = parse_routes(["__mx__", API], PLACE)
    assert routes == [Route(API)]
    assert len(problems) == 1


@given(st.text(max_size=60))
def test_any_text_is_a_route_or_a_problem_and_never_an_exception(text: str) -> None:
    routes, problems = parse_routes([text], PLACE)
    assert routes or problems


@given(st.text(alphabet="apn:/[]@?=&.x1%- ", max_size=30))
def test_anything_that_looks_like_a_route_is_one_or_a_problem(text: str) -> None:
    routes, problems = parse_routes(["apn://" + text], PLACE)
    assert routes or problems


@pytest.mark.parametrize(
    ("host", "environment"),
    [
        (API, "production"),
        ("api-broadcast.push.apple.com", "production"),
        ("api.sandbox.push.apple.com", "development"),
        ("api.development.push.apple.com", "development"),
        ("api-manage-broadcast.sandbox.push.apple.com", "development"),
        ("relay.example.com", ""),
        ("api.push.apple.com.example.com", ""),
        ("127.0.0.1", ""),
    ],
)
def test_a_host_of_apples_tells_its_environment(host: str, environment: str) -> None:
    assert environment_of(host) == environment
