# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Display the pages of real drills in a real browser.

With POSTMORTEM_PICTURES=1, as in make nightly, images and PDFs for a visual check are saved in build/postmortem-pages/.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import recorded
from browser import Browser

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._report import document_store

PICTURES = Path(__file__).resolve().parents[2] / "build" / "postmortem-pages"
WITH_PICTURES = os.environ.get("POSTMORTEM_PICTURES") == "1"
WIDE, NARROW = 1280, 390
# Find elements that overflow the right edge of the page or are cut off there. No such element may exist at any width.
STICKING_OUT = """
[...document.querySelectorAll("body *")].filter(each => {
  if (each.closest(".wide") || each.closest("svg")) return false;
  const box = each.getBoundingClientRect();
  const cut = each.scrollWidth > each.clientWidth + 1 && getComputedStyle(each).display !== "inline";
  return box.width > 0 && (box.right > innerWidth + 0.5 || cut);
}).map(each => each.tagName + "." + each.className + ": " + each.textContent.slice(0, 40))
"""
# Find labels that overflow their chart or overlap each other.
OVERLAPPING = """
[...document.querySelectorAll("svg")].flatMap(svg => {
  const frame = svg.getBoundingClientRect();
  const texts = [...svg.querySelectorAll("text")].map(each => [each.textContent, each.getBoundingClientRect()]);
  const beyond = box => box.left < frame.left - 1 || box.right > frame.right + 1 || box.bottom > frame.bottom + 1;
  const shared = (a, b, from, to) => Math.min(a[to], b[to]) - Math.max(a[from], b[from]);
  const touch = (a, b) => shared(a, b, "left", "right") > 1 && shared(a, b, "top", "bottom") > 3;
  const out = texts.filter(([, box]) => beyond(box)).map(([text]) => "out: " + text);
  const on = texts.flatMap(([text, a], i) =>
    texts.slice(i + 1).filter(([, b]) => touch(a, b)).map(([other]) => text + " / " + other));
  return [...out, ...on];
})
"""
# Find the lowest contrast between text and its background. WCAG 2.2, 1.4.3 requires 4.5 for text of this size.
CONTRAST = """
(() => {
  const channel = value => (value /= 255) <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const colour = text => text.match(/[\\d.]+/g).map(Number);
  const behind = each => { for (; each; each = each.parentElement) {
    const found = colour(getComputedStyle(each).backgroundColor);
    if (found.length < 4 || found[3] > 0) return found; } return [255, 255, 255]; };
  const told = [...document.querySelectorAll("body :not(svg *)")].filter(each =>
    each.getClientRects().length && [...each.childNodes].some(node => node.nodeType === 3 && node.textContent.trim()));
  return told.map(each => {
    const [a, b] = [light(colour(getComputedStyle(each).color)), light(behind(each))].sort((x, y) => y - x);
    return [Math.round((a + 0.05) / (b + 0.05) * 100) / 100, each.tagName + "." + each.className];
  }).sort((x, y) => x[0] - y[0])[0];
})()
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Browser(tmp_path_factory.mktemp("browser")) as running:
        yield running


@pytest.mark.parametrize("language", recorded.SPOKEN)
@pytest.mark.parametrize("drill", recorded.drills())
def test_a_page_is_self_contained_and_fits(browser, tmp_path, drill, language):
    PICTURES.mkdir(parents=True, exist_ok=True)
    page = tmp_path / f"{drill}.html"
    page.write_text(recorded.page(drill, language), encoding="utf-8")
    browser.open(page)
    for width in (WIDE, NARROW):
        for dark in (False, True):
            browser.look(width=width, dark=dark)
            assert browser.evaluate("document.scrollingElement.scrollWidth") <= width
            assert browser.evaluate(STICKING_OUT) == []
            assert browser.evaluate(OVERLAPPING) == []
            assert browser.evaluate(CONTRAST)[0] >= 4.5, browser.evaluate(CONTRAST)
            if WITH_PICTURES:
                look = f"{'narrow' if width == NARROW else 'wide'}-{'dark' if dark else 'light'}"
                browser.screenshot(PICTURES / f"{drill}.{language}.{look}.png")
    if WITH_PICTURES:
        browser.print(PICTURES / f"{drill}.{language}.pdf")
    assert (browser.complaints, browser.requests) == ([], [page.as_uri()])


def test_an_index_links_to_its_pages(browser, tmp_path):
    spoken = recorded.SPOKEN["en"]
    for drill in recorded.drills():
        for document in document_store.documents(str(tmp_path), spoken, recorded.incident(drill)):
            document.write()
    document_store.index(str(tmp_path), spoken).write()
    browser.look(width=WIDE, dark=False)
    browser.open(tmp_path / "index.html")
    assert (browser.complaints, browser.requests) == ([], [(tmp_path / "index.html").as_uri()])
    if WITH_PICTURES:
        browser.screenshot(PICTURES / "index.png")
    links = browser.evaluate("[...document.links].map(each => each.href)")
    assert len(links) == len(recorded.drills())
    browser.open(tmp_path / links[0].rsplit("/", 1)[-1])
    assert browser.complaints == []


@pytest.mark.parametrize(
    ("markup", "asked"),
    [
        pytest.param('<img src="http://127.0.0.1:9/x.png">', ["http://127.0.0.1:9/x.png"], id="picture"),
        pytest.param("<script>console.log('x')</script>", [], id="script"),
        pytest.param('<p style="color: red">x</p>', [], id="style"),
    ],
)
def test_the_browser_detects_violations(browser, tmp_path, markup, asked):
    """The browser reports content that violates the page's Content-Security-Policy.

    Therefore, the tests above fail if a page has such content.
    """
    page = tmp_path / "page.html"
    page.write_text(recorded.page("hang", "en").replace("</main>", markup + "</main>"), encoding="utf-8")
    browser.open(page)
    assert any("Content Security Policy" in each for each in browser.complaints)
    assert browser.requests == [page.as_uri(), *asked]
