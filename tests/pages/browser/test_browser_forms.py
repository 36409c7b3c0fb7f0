"""Widgets that the server fills: what the browser shows is what is in force, also after one model replaced another."""

import shutil

import pytest

from tests.pages.browser import walk
from tests.pages.browser.walk import ROOT, SHORT, soon

pytestmark = [pytest.mark.browser, pytest.mark.slow]
LONG_NAME = "a-very-long-model-name-that-somebody-exported-with-every-setting-in-it-yarn-x4-int4-k-cache-step-120000"
ROUNDS = 3  # a message lost between two runs is lost now and then, not always


def test_the_form_shows_the_setting_after_one_model_replaced_another(dashboard, visit):
    folder = dashboard.home / LONG_NAME
    shutil.copytree(ROOT / "assets" / "demo", folder)
    page = visit()
    page.goto(dashboard.address)
    walk.load_demo(page)
    for _ in range(ROUNDS):
        load_folder(page, folder)
        own = {"Frequency bands": "8", "Factor s": "1: no interpolation", "Quantizer": "int4 K cache"}
        soon(page, lambda: form(page), own)
        page.get_by_role("button", name="Demo model").click()
        page.get_by_role("heading", level=1, name="demo", exact=True).wait_for(timeout=SHORT)
        soon(page, lambda: form(page), {"Frequency bands": "8", "Factor s": "4.00", "Quantizer": "int4 K cache"})


def load_folder(page, folder):
    page.get_by_role("button", name="Another model").click()
    page.get_by_role("radio", name="Folder").or_(page.get_by_role("button", name="Folder", exact=True)).first.click()
    typed = page.get_by_label("Folder with config.json and safetensors")
    typed.fill(str(folder))
    typed.press("Tab")
    page.get_by_role("button", name="Load", exact=True).click()
    page.get_by_role("heading", level=1, name=folder.name[:12]).wait_for(timeout=SHORT)
    page.get_by_text("Common setups").wait_for(timeout=SHORT)


def form(page):
    """What the form on the Start page says."""
    shown = {name: page.get_by_label(name, exact=True).first.input_value() for name in ("Frequency bands", "Factor s")}
    return shown | {"Quantizer": page.get_by_role("combobox", name="Quantizer", exact=True).input_value()}
