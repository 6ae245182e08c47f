"""How faults are requested: what is accepted, and one sentence for each refusal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mdstream.errors import SettingsError
from mdstream.simulator.command import command
from mdstream.simulator.faults.kinds import KINDS, Close, Drop, Refuse, Spec, Stall, from_json, from_text

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "simulator.md"


def requested(**fields: Any) -> Spec:
    return from_json(json.dumps({"venue": "okx"} | fields).encode())


@pytest.mark.parametrize("kind", KINDS)
def test_kind_alone_is_enough(kind: str) -> None:
    """Every parameter has a default: it begins at once, concerns all symbols and lasts until it is ended."""
    spec = from_text(f"okx:{kind}")
    assert spec == requested(kind=kind) == Spec("okx", kind, KINDS[kind]())


def test_text_and_json_say_the_same() -> None:
    """Text has units for its times and + between symbols."""
    spec = from_text("okx:stall:at=1m,for=1500ms,every=2h,seed=7,replay=true,symbols=BTCUSDT+ETH-USDT")
    assert spec == requested(
        kind="stall", at_s=60, for_s=1.5, every_s=7200, seed=7, replay=True, symbols=["BTCUSDT", "ETHUSDT"]
    )
    assert spec == Spec(
        "okx", "stall", Stall(replay=True), frozenset({"BTCUSDT", "ETHUSDT"}), at_s=60, for_s=1.5, every_s=7200, seed=7
    )
    assert from_text("okx:drop:share=0.5,run=3,for_s=2").parameters == Drop(share=0.5, run=3)
    assert from_text("okx:close:code=4000,reason=Bye now").parameters == Close(4000, "Bye now")
    assert from_text("okx:refuse:status=0,rest=1").parameters == Refuse(0, rest=True)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"kind": "foo"}, "there is no fault of the kind 'foo': expected one of disconnect, close, shutdown, refuse"),
        ({}, "there is no fault of the kind None"),
        ({"kind": "stall", "venue": 1}, "venue: expected a name, not 1"),
        (
            {"kind": "stall", "ms": 1},
            "stall has no parameter 'ms': it takes replay, symbols, at_s, for_s, every_s, seed",
        ),
        ({"kind": "delay", "ms": "1"}, "ms: Expected `float`, got `str`"),
        ({"kind": "delay", "ms": 0}, "ms: Expected `float` >= 1.0"),
        ({"kind": "drop", "share": 1.5}, "share: Expected `float` <= 1.0"),
        ({"kind": "malformed", "how": "x"}, "how: Invalid enum value 'x'"),
        ({"kind": "close", "code": 1005}, "close: 1005 is not a code that a close frame may carry"),
        ({"kind": "close", "reason": "é"}, "reason: Expected `str` matching regex"),
        ({"kind": "close", "for_s": 1}, "for_s: close happens at once and does not last"),
        ({"kind": "stall", "for_s": 0}, "for_s: Expected `float` >= 0.001"),
        ({"kind": "stall", "every_s": 9}, "every_s: a recurring stall needs for_s"),
        ({"kind": "refuse", "symbols": ["A"]}, "symbols: refuse affects whole connections"),
        ({"kind": "stall", "symbols": []}, "symbols: an empty list names none"),
        ({"kind": "stall", "symbols": "A"}, "symbols: Expected `array | null`, got `str`"),
        ({"kind": "stall", "symbols": ["A B"]}, "symbols: Expected `str` matching regex"),
    ],
)
def test_bad_json_is_one_clear_sentence(fields: dict[str, Any], sentence: str) -> None:
    """Which parameter, what was found and what is allowed."""
    with pytest.raises(SettingsError) as refused:
        requested(**fields)
    assert str(refused.value).startswith(sentence)


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"{", "a fault is a JSON object, but this is not JSON: "),
        (b"\xff", "a fault is a JSON object, but this is not JSON: "),
        (b"[]", "a fault is a JSON object such as "),
        (b'{"venue":"okx","kind":"delay","ms":NaN}', "ms: expected a finite number, not nan"),
    ],
)
def test_body_that_is_no_fault_is_refused(body: bytes, sentence: str) -> None:
    """Before its fields are checked."""
    with pytest.raises(SettingsError) as refused:
        from_json(body)
    assert str(refused.value).startswith(sentence)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("okx", "fault okx: there is no fault of the kind ''"),
        ("okx:stall:for", "fault okx:stall:for: expected key=value, not 'for'"),
        ("okx:stall:for=1x", "for: expected a time such as 500ms, 30s or 2m, not '1x'"),
        ("okx:delay:ms=x", "fault okx:delay:ms=x: ms: Expected `float`, got `str`"),
        ("okx:delay:ms=nan", "fault okx:delay:ms=nan: ms: expected a finite number, not nan"),
    ],
)
def test_bad_text_is_one_clear_sentence(text: str, sentence: str) -> None:
    """The command line shows it as it is."""
    with pytest.raises(SettingsError) as refused:
        from_text(text)
    assert str(refused.value).startswith(sentence)


@pytest.mark.parametrize("kind", KINDS)
def test_help_and_docs_name_every_parameter(kind: str) -> None:
    """Users need not read the source to learn the parameters of a fault."""
    for text in (CliRunner().invoke(command, ["--help"]).output, DOCUMENT.read_text()):
        assert kind in text
        for name in KINDS[kind].__struct_fields__:
            assert f"{name}=" in text, name
