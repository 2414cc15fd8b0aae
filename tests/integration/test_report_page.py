"""The report's page in a real browser: light and dark, desk and phone, and nothing fetched from anywhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import made_up_run
import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By

from skerry.bench.results import EMPTY
from skerry.report import page
from skerry.report.analysis import Analysis, Series, analyse

FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
         "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run",
         "--hide-scrollbars")


@pytest.fixture(scope="module")
def found() -> Analysis:
    return analyse(*made_up_run.make())


@pytest.fixture(scope="module")
def written(found: Analysis, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return page.write(found, tmp_path_factory.mktemp("page") / "report.html")


@pytest.fixture(scope="module")
def browser() -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    for flag in FLAGS:
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver"))
    yield driver
    driver.quit()


def show(driver: webdriver.Chrome, path: Path, width: int = 1400, scheme: str = "light") -> None:
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride",
                           {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500})
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia",
                           {"features": [{"name": "prefers-color-scheme", "value": scheme}]})
    driver.get(path.as_uri())


def luminance(colour: str) -> float:
    """WCAG 2 relative luminance of ``rgb(r, g, b)``."""
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.browser
def test_no_error_and_nothing_fetched(browser: webdriver.Chrome, written: Path) -> None:
    browser.get_log("performance")
    show(browser, written)
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []
    asked = re.findall(r'"Network\.requestWillBeSent".*?"url":"([^"]+)"',
                       " ".join(entry["message"] for entry in browser.get_log("performance")))
    assert set(asked) <= {written.as_uri()}


@pytest.mark.browser
@pytest.mark.parametrize("width", [360, 390, 768, 1400])
def test_the_page_never_scrolls_sideways(browser: webdriver.Chrome, written: Path, width: int) -> None:
    show(browser, written, width)
    browser.execute_script("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width


@pytest.mark.browser
def test_text_in_drawings_is_readable_on_a_phone(browser: webdriver.Chrome, written: Path) -> None:
    show(browser, written, 390)
    heights = browser.execute_script(
        "return [...document.querySelectorAll('.panel svg text.row')].map(one => one.getBoundingClientRect().height)")
    assert heights and min(heights) >= 11


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_hold_in_both_schemes(browser: webdriver.Chrome, written: Path, scheme: str) -> None:
    show(browser, written, scheme=scheme)
    page_colour, ink, soft = browser.execute_script(
        "const of = (q, p) => getComputedStyle(document.querySelector(q))[p];"
        "return [of('body', 'backgroundColor'), of('body', 'color'), of('.lead', 'color')]")
    assert (luminance(page_colour) < 0.1) == (scheme == "dark")
    assert contrast(ink, page_colour) >= 7
    assert contrast(soft, page_colour) >= 4.5
    marks = browser.execute_script(
        "return ['native', 'wasmtime', 'wasmedge'].map(name => getComputedStyle("
        "document.querySelector('.panel line.median.' + name)).stroke)")
    card = browser.execute_script("return getComputedStyle(document.querySelector('.panel')).backgroundColor")
    assert len(set(marks)) == 3
    for colour in marks:
        assert contrast(colour, card) >= 3  # WCAG 2 for graphical objects


@pytest.mark.browser
def test_every_sample_that_counts_is_drawn(browser: webdriver.Chrome, written: Path, found: Analysis) -> None:
    show(browser, written)
    for host in ("cloud-1", "edge-1", "edge-2"):
        times = sum(len(one.seconds()) for one in found.series.values()
                    if one.combination.host == host and one.combination.workload != EMPTY)
        section = browser.find_element(By.ID, f"host-{host}")
        ladder = section.find_element(By.CSS_SELECTOR, ".panels")
        assert len(ladder.find_elements(By.CSS_SELECTOR, "circle.dot")) == times
        memory = sum(len(Series.pss(one)) + len(Series.cgroup(one)) for one in found.series.values()
                     if one.combination.host == host and one.combination.workload != EMPTY)
        drawn = section.find_elements(By.CSS_SELECTOR, ".panels")[1].find_elements(By.CSS_SELECTOR, "circle.dot")
        assert len(drawn) == memory


@pytest.mark.browser
def test_drawings_have_words_and_tables_beside_them(browser: webdriver.Chrome, written: Path) -> None:
    show(browser, written)
    for drawing in browser.find_elements(By.CSS_SELECTOR, ".panel > svg"):
        assert drawing.get_attribute("role") == "img"
        assert drawing.get_attribute("aria-label")
    tables = browser.find_elements(By.CSS_SELECTOR, "table")
    assert tables
    assert all(table.find_elements(By.TAG_NAME, "caption") for table in tables)
    assert browser.find_element(By.TAG_NAME, "html").get_attribute("lang") == "en"
    ids = [one.get_attribute("id") for one in browser.find_elements(By.CSS_SELECTOR, "[id]")]
    assert len(ids) == len(set(ids))
    for link in browser.find_elements(By.CSS_SELECTOR, "nav a"):
        assert (link.get_attribute("href") or "").split("#")[1] in ids


@pytest.mark.browser
def test_what_is_missing_and_what_failed_is_said(browser: webdriver.Chrome, written: Path) -> None:
    show(browser, written)
    text = browser.find_element(By.TAG_NAME, "body").text
    assert "Debian 12 has no package of WasmEdge" in text
    assert "edge-9 does not answer on port 22" in text
    assert "wrong output: 5 bytes" in text
    assert "shares a machine with" in text
    assert "emulated" in text
    assert "--seed 7" in text


def test_names_from_outside_are_escaped(tmp_path: Path) -> None:
    run, rows = made_up_run.make(samples=1)
    run.hosts[0].os_name = "<script>alert(1)</script>"
    run.missing[0].reason = '"><img src=x>'
    text = page.write(analyse(run, rows), tmp_path / "page.html").read_text()
    assert "<script" not in text
    assert "<img" not in text


def test_the_page_is_one_file_without_addresses(written: Path) -> None:
    text = written.read_text()
    assert not re.search(r"(?:src|href)=[\"'](?!#)", text)
    assert "url(" not in text
    assert "@import" not in text
