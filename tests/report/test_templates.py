import re
from importlib.resources import files

import numpy as np
import pytest

STYLES = {
    "report": (files("regraft.report") / "pages" / "style.css").read_text(encoding="utf-8"),
    "serve": (files("regraft.deployment.serve") / "pages" / "style.css").read_text(encoding="utf-8"),
}
PAGES = sorted((files("regraft.report") / "pages").iterdir(), key=lambda page: page.name)
BACKGROUNDS = {"report": ("page", "card"), "serve": ("back", "card")}
TEXTS = {
    "report": ("text", "quiet", "accent", "error", "warning", "note", "lead", "right", "wrong"),
    "serve": ("text", "quiet", "accent", "wrong"),
}


def palettes(style):
    """Returns the colours of the light and of the dark theme, float64 (3,) in [0, 255], by name."""
    roots = [
        dict(re.findall(r"--([\w-]+): (#[0-9a-f]+)", block)) for block in re.findall(r":root \{(.*?)\}", style, re.S)
    ]
    light, dark = roots[0], roots[0] | roots[1]
    return [{name: rgb(value) for name, value in theme.items()} for theme in (light, dark)]


def rgb(value):
    digits = value[1:] if len(value) == 7 else "".join(2 * digit for digit in value[1:])
    return np.array([int(digits[place : place + 2], 16) for place in (0, 2, 4)], float)


def contrast(one, other):
    """Returns the contrast of two colours as WCAG 2 defines it."""
    shares = np.stack([one, other]) / 255
    linear = np.where(shares <= 0.03928, shares / 12.92, ((shares + 0.055) / 1.055) ** 2.4)
    low, high = np.sort(linear @ [0.2126, 0.7152, 0.0722])
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize("place", STYLES)
def test_text_can_be_read_in_both_themes(place, theme):
    colours = palettes(STYLES[place])[theme]
    for text in TEXTS[place]:
        for background in BACKGROUNDS[place]:
            assert contrast(colours[text], colours[background]) >= 4.5, (text, background)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_the_numbers_of_a_confusion_matrix_can_be_read_whatever_their_share(theme):
    colours = palettes(STYLES["report"])[theme]
    for cell in ("right-cell", "wrong-cell"):
        for opacity in np.linspace(0, 1, 21):
            mixed = opacity * colours[cell] + (1 - opacity) * colours["page"]
            assert contrast(colours["text"], mixed) >= 4.5, (cell, opacity)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_the_lines_of_charts_can_be_seen(theme):
    colours = palettes(STYLES["report"])[theme]
    for name in (*(f"c{place}" for place in range(6)), *(f"shade{place}" for place in range(5))):
        assert contrast(colours[name], colours["page"]) >= 3, name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_have_no_colours_but_those_of_the_themes(page):
    text = page.read_text(encoding="utf-8")
    rest = re.sub(r":root \{.*?\}", "", text, flags=re.S)
    assert not re.findall(r"(?:color|fill|stroke|background)[\w-]*: ?(?:#|rgb)", rest)


def test_what_is_printed_has_light_colours_and_all_rows():
    style = STYLES["report"]
    assert "@media screen and (prefers-color-scheme: dark)" in style
    assert style.count("prefers-color-scheme") == 1
    assert "print-color-adjust: exact" in style
    printed = style.partition("@media print {")[2]
    assert re.search(r"\.scroll \{ overflow: visible; max-height: none;", printed)
    # A height of their own would win against the rule.
    assert not [
        page.name for page in PAGES if re.search(r'class="scroll[^>]*max-height', page.read_text(encoding="utf-8"))
    ]


def test_images_are_there_when_a_page_is_printed():
    assert not [page.name for page in PAGES if "lazy" in page.read_text(encoding="utf-8")]


@pytest.mark.parametrize("place", STYLES)
def test_commands_and_headings_are_whole_on_a_narrow_screen(place):
    style = STYLES[place]
    assert re.search(r"pre \{[^}]*white-space: pre-wrap", style)
    assert re.search(r"th \{[^}]*overflow-wrap: normal", style)


def test_tables_of_many_columns_are_cards_on_a_narrow_screen():
    figures = next(page for page in PAGES if page.name == "figures.html").read_text(encoding="utf-8")
    assert '<table class="cards">' in figures
    assert figures.count("data-label=") == 2  # of the number of images, and of each figure


def test_a_printed_leaderboard_has_whole_names_of_runs_and_no_plot_that_is_too_small():
    printed = next(page for page in PAGES if page.name == "leaderboard.html").read_text(encoding="utf-8")
    assert re.search(
        r"@media print \{[^@]*td\.runs \{ overflow-wrap: normal; \} \.screen \{ display: none; \}", printed
    )
    assert "axes|length > max_printed" in printed
