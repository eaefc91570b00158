"""The system's Chromium, for the tests of pages."""

import shutil
from contextlib import contextmanager


def chromium():
    """The system's Chromium, if there is one."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def opened(file, **options):
    """What a browser says of a page: messages, requests, and the widths of its pictures."""
    from playwright.sync_api import sync_playwright

    messages, requests = [], []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        tab = browser.new_page(**options)
        tab.on("console", lambda message: messages.append(message.text))
        tab.on("pageerror", lambda error: messages.append(str(error)))
        tab.on("request", lambda request: requests.append(request.url))
        tab.goto(file.absolute().as_uri())
        widths = tab.evaluate("[...document.images].map(image => image.complete ? image.naturalWidth : 0)")
        seen = tab.evaluate(
            "({title: document.title, scripts: document.scripts.length, svgs: document.querySelectorAll('svg').length,"
            " overflow: document.documentElement.scrollWidth - innerWidth,"
            " dangling: [...document.querySelectorAll('nav a')].filter(a => !document.querySelector(a.hash)).length,"
            " background: getComputedStyle(document.body).backgroundColor, text: document.body.innerText})"
        )
        browser.close()
    return messages, requests, widths, seen


@contextmanager
def on_a_page(file, **options):
    """A page that is open in a browser, to ask it more."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        tab = browser.new_page(**options)
        tab.goto(file.absolute().as_uri())
        yield tab
        browser.close()
