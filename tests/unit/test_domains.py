"""Domains: their one spelling, IDNA, and the sets of domains that patterns name."""

from __future__ import annotations

import pickle
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratelimit_mail.addresses import (
    LOCAL_DOMAIN,
    NULL_SENDER,
    DomainSet,
    normal_domain,
    normal_pattern,
)


def test_sharp_s_is_not_double_s() -> None:
    assert normal_domain("straße.de") != normal_domain("strasse.de")


def test_a_domain_that_is_too_long_in_ascii_is_an_error() -> None:
    with pytest.raises(ValueError, match="longer than 255"):
        normal_domain(".".join(["ü" * 40] * 6))


@given(st.lists(st.sampled_from(["bücher", "例え", "пример", "a-b", "x1"]), min_size=1, max_size=4))
def test_a_domain_equals_its_own_a_labels(labels: list[str]) -> None:
    a_labels = ".".join(
        label if label.isascii() else "xn--" + label.encode("punycode").decode() for label in labels
    )
    assert normal_domain(".".join(labels)) == a_labels == normal_domain(a_labels.upper())


@pytest.mark.parametrize(
    ("written", "normal"),
    [
        ("l·l.cat", "xn--ll-0ea.cat"),
        ("XN--LL-0EA.cat", "xn--ll-0ea.cat"),
        ("ΣΑΣ.gr", "xn--mxa9ab.gr"),
        ("faß.de", "xn--fa-hia.de"),
        ("\u0915\u094d\u200d\u0937.com", "xn--11b2ezcw70k.com"),
        ("_dmarc.bücher.de", "_dmarc.xn--bcher-kva.de"),
        ("-x-.org", "-x-.org"),
        ("my_host.x--y.org", "my_host.x--y.org"),
        ("x\u00ad.org", "x.org"),
        ("ｘｎ--bcher-kva.de", "xn--bcher-kva.de"),
        ("\u212a.org", "k.org"),
        ("１２３.org", "123.org"),
    ],
)
def test_a_domain_is_mapped_by_uts_46_and_encoded_by_idna(written: str, normal: str) -> None:
    assert normal_domain(written) == normal
    assert normal_domain(normal) == normal


@pytest.mark.parametrize(
    "domain",
    [
        "xn--.com",
        "xn---.com",
        "xn--a.com",
        "xn--zzzzzzzzzzzzzz99999.com",
        "www.xn--bcher-kva-.com",
        "l·x.cat",
        "·.com",
        "-ü.com",
        "ü-.com",
        "bücher.xn--",
        "\u0301x.com",
        "a\u200db.com",
        "אa1.com",
        "❤.ws",
    ],
)
def test_a_label_that_idna_does_not_allow_is_an_error(domain: str) -> None:
    with pytest.raises(ValueError, match="which IDNA does not allow") as caught:
        normal_domain(domain)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("domain", ["x\ufffd.org", "x\ue000.org", "\ud800.org", "x\U000e0fff.org"])
def test_a_character_that_a_domain_cannot_have_is_an_error(domain: str) -> None:
    with pytest.raises(ValueError, match="has a character that a domain cannot have"):
        normal_domain(domain)


@pytest.mark.parametrize("label", ["ü" * 60, "漢" * 59, "x" * 64, "xn--" + "a" * 60, "\ufdfa" * 4])
def test_a_label_that_is_too_long_in_ascii_is_an_error(label: str) -> None:
    with pytest.raises(ValueError, match=r"longer than 63|IDNA does not allow"):
        normal_domain(f"{label}.org")


def test_a_long_domain_is_refused_before_it_is_encoded() -> None:
    # Encoding these would take minutes.
    for domain in ("ü" * 10_000_000, "漢字" * 5_000_000, "xn--" + "a" * 10_000_000, "\ufdfa" * 255):
        with pytest.raises(ValueError, match="longer than"):
            normal_domain(domain)


def imported(code: str) -> bool:
    """Return whether a new interpreter has imported `idna` after `code`."""
    code += "; import sys; print('idna' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return done.stdout.strip() == "True"


def test_idna_is_imported_only_for_a_domain_that_needs_it() -> None:
    plain = "from ratelimit_mail import Envelope; Envelope('a@X.org', ['b@x_y.org', '\"c\"@z.org'])"
    assert not imported(plain)
    assert imported(plain + "; Envelope('a@bücher.de', ['b@x.org'])")
    assert imported(plain + "; Envelope('a@xn--bcher-kva.de', ['b@x.org'])")


@pytest.mark.parametrize(
    ("pattern", "normal"),
    [
        ("uwo.ca", "uwo.ca"),
        ("UWO.ca", "uwo.ca"),
        (".UWO.ca", ".uwo.ca"),
        (".bücher.de", ".xn--bcher-kva.de"),
        ("[192.0.2.1]", "[192.0.2.1]"),
    ],
)
def test_a_pattern_has_one_spelling(pattern: str, normal: str) -> None:
    assert normal_pattern(pattern) == normal


@pytest.mark.parametrize("value", ["", ".", "..ca", "*.uwo.ca", "bob@uwo.ca", "uwo ca", "uwo.ca\n"])
def test_the_error_names_what_is_not_a_domain(value: str) -> None:
    with pytest.raises(ValueError, match=r"is not a domain; one such as 'example\.com'") as caught:
        normal_pattern(value)
    assert repr(value.removeprefix(".")) in str(caught.value)


@pytest.mark.parametrize("value", [None, 5, b"uwo.ca"])
def test_a_domain_is_a_string(value: Any) -> None:
    with pytest.raises(TypeError, match=r"such as 'uwo\.ca' or '\.uwo\.ca'") as caught:
        normal_pattern(value)
    assert repr(value) in str(caught.value)


@pytest.mark.parametrize(
    ("domain", "expected"),
    [
        ("uwo.ca", True),
        ("mail.uwo.ca", False),
        ("leeds.ac.uk", False),
        ("cs.leeds.ac.uk", True),
        ("a.b.leeds.ac.uk", True),
        ("notleeds.ac.uk", False),
        ("ca", False),
        ("", False),
        (NULL_SENDER, False),
    ],
)
def test_a_leading_dot_means_all_subdomains_and_only_those(domain: str, expected: bool) -> None:
    assert DomainSet(["uwo.ca", ".leeds.ac.uk"])[domain] is expected


DOMAINS = st.lists(st.sampled_from(["a", "b", "ab"]), min_size=1, max_size=4).map(".".join)
PATTERNS = st.builds(str.__add__, st.sampled_from(["", "."]), DOMAINS)


@given(st.lists(PATTERNS, max_size=4), st.lists(DOMAINS, min_size=1, max_size=5))
def test_a_domain_set_agrees_with_a_naive_search(patterns: list[str], domains: list[str]) -> None:
    domain_set = DomainSet(patterns)
    for domain in domains:
        naive = any(domain == p or (p[0] == "." and domain.endswith(p)) for p in patterns)
        assert domain_set[domain] is naive


def test_only_a_set_with_the_local_domain_has_it() -> None:
    assert DomainSet(["uwo.ca"], with_local=True)[LOCAL_DOMAIN] is True
    assert DomainSet([], with_local=True)[LOCAL_DOMAIN] is True
    assert DomainSet([], with_local=True).patterns == ()
    assert DomainSet(["uwo.ca", ".ca"])[LOCAL_DOMAIN] is False


@pytest.mark.parametrize("with_local", [False, True])
def test_a_copy_of_a_domain_set_has_the_same_domains(with_local: bool) -> None:
    domains = pickle.loads(
        pickle.dumps(DomainSet(["uwo.ca", ".leeds.ac.uk"], with_local=with_local))
    )
    assert domains["uwo.ca"]
    assert domains["cs.leeds.ac.uk"]
    assert not domains["leeds.ac.uk"]
    assert domains[LOCAL_DOMAIN] is with_local


@pytest.mark.parametrize("value", [LOCAL_DOMAIN, "." + LOCAL_DOMAIN, "[_x..org]"])
def test_no_pattern_names_what_is_not_a_domain(value: str) -> None:
    with pytest.raises(ValueError, match="is not a domain"):
        normal_pattern(value)
