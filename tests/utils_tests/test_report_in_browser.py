"""A report as a browser shows it: no errors, nothing wider than the screen, and text where one points."""

import shutil

import pytest
from drawn_spaces import SPACES
from pipeline_runs import SPACE, make_search_run, make_training

from spos.core.flags import run_program
from spos.search.flags import ConstraintOptions
from utils.report import __main__ as report

selenium = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
from selenium.webdriver.common.action_chains import ActionChains  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.support.ui import WebDriverWait  # noqa: E402

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)
pytestmark = [
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="chromium or chromedriver is not installed"),
    pytest.mark.timeout(600),  # a browser on a busy machine
]


@pytest.fixture(scope="module", params=("published", "mobilenet"))
def page(tmp_path_factory, request):
    folder = tmp_path_factory.mktemp("runs")
    space = SPACES.get(request.param, SPACE)
    limits = ConstraintOptions(flop_max=-1, param_max=-1, score_max=-1)
    runs = [
        make_training(folder / "supernet", space=space),
        make_search_run(folder / "search", space=space, limits=limits),
    ]
    output = folder / "report.html"
    assert run_program(report.main, [*map(str, runs), "--output", str(output)]) == 0
    return output.as_uri()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    options = selenium.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS.split(), f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = selenium.Chrome(service=selenium.ChromeService(DRIVER), options=options)
    yield driver
    driver.quit()


def open_page(browser, page, width, scheme="light"):
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    feature = {"name": "prefers-color-scheme", "value": scheme}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    browser.get(page)
    WebDriverWait(browser, 120).until(lambda driver: driver.find_elements(By.CSS_SELECTOR, ".inspector .facts b"))


@pytest.mark.parametrize("width", (1280, 390))
@pytest.mark.parametrize("scheme", ("light", "dark"))
def test_a_page_fits_its_screen_without_errors(width, scheme, browser, page):
    open_page(browser, page, width, scheme)
    assert browser.get_log("browser") == []
    wide, screen = browser.execute_script("return [document.documentElement.scrollWidth, window.innerWidth]")
    assert wide <= screen == width
    browser.execute_script("for (const box of document.querySelectorAll('details')) box.open = true")
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    plots = browser.find_elements(By.CSS_SELECTOR, ".plot")
    assert plots and all(plot.find_elements(By.CSS_SELECTOR, ".main-svg") for plot in plots)
    assert browser.execute_script("return document.documentElement.dataset.theme") == scheme


def test_pointing_at_a_candidate_shows_its_architecture(browser, page):
    open_page(browser, page, 1280)
    plot = browser.find_element(By.CSS_SELECTOR, ".selector + .plot")
    point = plot.find_elements(By.CSS_SELECTOR, ".scatterlayer .trace:nth-of-type(2) path.point")[0]
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", plot)
    ActionChains(browser).move_to_element(point).perform()
    label = WebDriverWait(browser, 60).until(lambda _: plot.find_element(By.CSS_SELECTOR, ".hoverlayer .hovertext"))
    assert "blocks" in label.text and "channels" in label.text and "95% interval" in label.text
    facts = browser.find_element(By.CSS_SELECTOR, ".inspector .facts").text
    assert facts.splitlines()[2] in label.text  # evaluation and iteration


def test_the_axis_and_the_colours_can_be_changed(browser, page):
    open_page(browser, page, 1280)
    title = "return document.querySelector('.selector + .plot').layout.xaxis.title.text"
    assert browser.execute_script(title) == "FLOPs (M)"
    browser.find_element(By.CSS_SELECTOR, ".selector option[value=params]").click()
    assert browser.execute_script(title) == "params (M)"
    ink = "return document.querySelector('.plot').layout.font.color"
    before = browser.execute_script(ink)
    browser.find_element(By.ID, "theme").click()
    assert browser.execute_script(ink) != before
    assert browser.execute_script(title) == "params (M)"
    assert browser.get_log("browser") == []


def test_what_files_say_is_text_and_no_handler_runs(browser, page, tmp_path):
    """Marks in facts are shown as they are, in the panel and beside the pointer; an injected handler is refused."""
    open_page(browser, page, 1280)
    hostile = "<img src=x onerror=window.ran=1><b>no mark</b>"
    browser.execute_script(
        "const plot = plots.find((one) => one.chosen); inspect(plot, [arguments[0], [0], [1], [0]]);", hostile
    )
    panel = browser.find_element(By.CSS_SELECTOR, ".inspector .facts")
    assert panel.text == hostile and not panel.find_elements(By.CSS_SELECTOR, "img")
    assert browser.execute_script("return label(arguments[0])", hostile) == (
        "<b>&lt;img src=x onerror=window.ran=1&gt;&lt;b&gt;no mark&lt;/b&gt;</b>"
    )
    browser.execute_script(
        "const box = document.createElement('div'); box.innerHTML = arguments[0]; document.body.append(box);"
        "const script = document.createElement('script'); script.textContent = 'window.ran = 2';"
        "document.body.append(script);",
        hostile,
    )
    refused = WebDriverWait(browser, 60).until(
        lambda _: [one["message"] for one in browser.get_log("browser") if "Content Security Policy" in one["message"]]
    )
    assert refused and browser.execute_script("return window.ran === undefined")
