"""Pages in a headless browser: quiet, readable by everybody, in both widths and both themes.

Needs playwright and axe (`pip install playwright axe-playwright-python`) and a Chromium or Chrome.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.commands import Vlacut
from support.deployments import serving_thread

import vlacut as library

playwright = pytest.importorskip("playwright.sync_api", reason="there is no playwright")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="there is no axe")
pytestmark = pytest.mark.slow

_BROWSERS = ("chromium", "google-chrome", "chromium-browser")
_TARGET = ("--edge", "jetson-agx-orin", "--cloud", "a100", "--link", "10MB/s,20ms")
_RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21aa"]}  # with the contrast of AA
# What the keyboard has to reach, as far as it is shown.
_REACHED = """() => [...document.querySelectorAll(
    'a[href], button, summary, input, select, [tabindex="0"]')]
    .filter(one => one.checkVisibility() && !one.disabled).length"""
_FOCUSED = """() => { const one = document.activeElement;
    if (!one || one === document.body) return -1;
    one.__seen ??= (window.__count = (window.__count ?? 0) + 1); return one.__seen; }"""
_WIDER = "() => document.documentElement.scrollWidth > document.documentElement.clientWidth"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    found = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if found is None:
        pytest.skip(f"there is no browser: none of {', '.join(_BROWSERS)}")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield opened
        opened.close()


def pooled(vlacut: Vlacut, folder: Path) -> Path:
    """A tiny model with a pool."""
    made = folder / "pooled.vlacut"
    words = ("vit-mlp:tiny", *_TARGET, "--pool", "block", "-o", made)
    assert vlacut("compile", *words)[0] == 0
    return _reported(vlacut, folder, made)


def emulated(vlacut: Vlacut, folder: Path) -> Path:
    """A model of full size, which is not run."""
    made = folder / "openvla.vlacut"
    words = ("openvla", *_TARGET, "--pool", "portfolio:14GB", "--backend", "emulated", "-o", made)
    assert vlacut("compile", *words)[0] == 0
    return _reported(vlacut, folder, made)


def precise(vlacut: Vlacut, folder: Path) -> Path:
    """A policy with variants of other precisions."""
    made = folder / "precise.vlacut"
    words = ("vit-mlp:tiny", *_TARGET, "--precisions", "int8", "-o", made)
    assert vlacut("compile", *words)[0] == 0
    return _reported(vlacut, folder, made)


def driven(vlacut: Vlacut, folder: Path) -> Path:
    """The page of a recorded run."""
    made, run = folder / "driven.vlacut", folder / "run.npz"
    assert vlacut("compile", "vit-mlp:tiny", *_TARGET, "-o", made)[0] == 0
    with serving_thread(server := library.serve(made, port=0)):
        where = "{}:{}".format(*server.address)
        words = ("--cloud", where, "--steps", 8, "--record", run)
        assert vlacut("run", made, *words)[0] == 0
    return _reported(vlacut, folder, made, "--run", run)


def _reported(vlacut: Vlacut, folder: Path, *words: object) -> Path:
    page = folder / "page.html"
    status, _, err = vlacut("report", *words, "-o", page)
    assert status == 0, err
    return page


@pytest.mark.parametrize("make", [pooled, emulated, precise, driven])
def test_a_page_is_quiet_and_readable(
    make: Callable[[Vlacut, Path], Path], vlacut: Vlacut, browser: Any, tmp_path: Path
) -> None:
    page = make(vlacut, tmp_path)
    for width in (400, 1280):
        for theme in ("light", "dark"):
            where = f"{width} px, {theme}"
            view = browser.new_page(
                viewport={"width": width, "height": 900}, color_scheme=theme, offline=True
            )
            said: list[str] = []
            view.on("console", lambda line, said=said: said.append(line.text))
            view.on("pageerror", lambda error, said=said: said.append(str(error)))
            view.goto(page.as_uri())
            assert not said, where
            assert not view.evaluate(_WIDER), where
            found = axe.Axe().run(view, options=_RULES)
            assert not found.response["violations"], (where, found.generate_report())
            _reach_all(view, where)
            assert not said, where
            view.close()


def _reach_all(view: Any, where: str) -> None:
    """The tabulator comes to everything that can be operated."""
    many, seen = view.evaluate(_REACHED), set()
    for _ in range(many + 1):
        view.keyboard.press("Tab")
        seen.add(view.evaluate(_FOCUSED))
    assert many, where
    assert len(seen - {-1}) >= many, where


def test_what_is_hard_to_read_is_found(browser: Any) -> None:
    """So that the check above can fail."""
    view = browser.new_page()
    view.set_content('<p style="color: #ddd; background: #fff">faint</p>')
    found = axe.Axe().run(view, options=_RULES).response["violations"]
    assert "color-contrast" in [one["id"] for one in found]
    view.close()
