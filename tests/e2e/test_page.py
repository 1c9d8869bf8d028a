"""The page in a real browser: sign in, make an agent, talk, watch the answer grow, come back after everything was reloaded."""

import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, ConsoleMessage, Page, async_playwright, expect

from deploy.local import Stack
from tests.fakes.model_control import ThreadedModelServer

CHROMIUM = "/usr/bin/chromium"
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync")  # fmt: skip


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    """Debian's Chromium, headless."""
    async with async_playwright() as playwright:
        chromium = await playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield chromium
        await chromium.close()


@pytest.fixture
async def page(browser: Browser) -> AsyncIterator[Page]:
    """A page whose script errors fail the test."""
    page = await browser.new_page(viewport={"width": 1280, "height": 800})
    wrong: list[str] = []

    def listen(message: ConsoleMessage) -> None:
        if message.type == "error":
            wrong.append(message.text)

    page.on("console", listen)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    yield page
    assert not wrong, wrong


async def sign_in(page: Page, stack: Stack) -> None:
    """Opens the page and signs in with the administrator's key."""
    await page.goto(stack.url)
    await page.fill("#api-key", stack.api_key)
    await page.click("#sign-in button[type=submit]")
    await expect(page.locator("#workspace")).to_be_visible()
    await expect(page.locator("#connection")).to_have_attribute("data-state", "open")


async def create_agent(page: Page) -> str:
    """Makes an agent through the dialog; returns its name."""
    name = f"Ember {uuid.uuid4().hex[:6]}"
    await page.click("#new-agent")
    await page.fill("#new-name", name)
    await page.click("#agent-form button[type=submit]")
    await expect(page.locator("#agent-name")).to_have_text(name)
    return name


async def say(page: Page, text: str) -> None:
    """Types a message and presses Enter."""
    await page.fill("#text", text)
    await page.press("#text", "Enter")


async def test_an_answer_grows_token_by_token_and_is_there_after_a_reload(
    page: Page, stack: Stack, model: ThreadedModelServer, tmp_path: Path
) -> None:
    mark = f"Tell me a story {uuid.uuid4().hex}"
    words = " ".join(f"chapter{n}" for n in range(30))
    model.script(mark, {"text": words, "token_delay_ms": 60})
    await sign_in(page, stack)
    name = await create_agent(page)

    await say(page, mark)
    answer = page.locator("article.message.assistant").last
    await expect(answer).to_contain_text("chapter3")
    partial = await answer.inner_text()
    assert "chapter29" not in partial, "the answer came in one piece"
    await expect(answer).to_have_text(words)
    await page.screenshot(path=str(tmp_path / "page.png"))

    # Opened again and again before it is there, a conversation is still shown once.
    await page.reload()
    await page.locator("#agents").get_by_text(name).click(click_count=3)
    await expect(page.locator("article.message.assistant").last).to_have_text(words)
    await expect(page.get_by_text(mark)).to_have_count(1)
    await say(page, "And now?")
    await expect(page.locator("article.message.assistant").last).to_contain_text("And now?")


async def test_tool_calls_memory_and_failures_are_shown(page: Page, stack: Stack, model: ThreadedModelServer) -> None:
    learn, fail = f"learn {uuid.uuid4().hex}", f"fail {uuid.uuid4().hex}"
    model.script(
        learn,
        {
            "tool_calls": [
                {"name": "core_memory_append", "arguments": {"label": "human", "content": "Collects stamps."}}
            ]
        },
        {"text": "I will remember."},
        scope="last_user",
    )
    model.script(fail, {"status": 400, "error": "the model is on holiday"}, repeat=True, scope="last_user")
    await sign_in(page, stack)
    await create_agent(page)

    await say(page, learn)
    await expect(page.locator("article.message.assistant").last).to_have_text("I will remember.")
    await expect(page.locator("details.tool")).to_have_attribute("data-outcome", "succeeded")
    await expect(page.locator("#blocks")).to_contain_text("Collects stamps.")

    await say(page, fail)
    await expect(page.locator("#log")).to_contain_text("the model is on holiday")
    await say(page, "Does it still work?")
    await expect(page.locator("article.message.assistant").last).to_contain_text("Does it still work?")


async def test_what_the_model_writes_is_never_markup(page: Page, stack: Stack, model: ThreadedModelServer) -> None:
    mark = f"inject {uuid.uuid4().hex}"
    model.script(
        mark, {"text": "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"}
    )
    await sign_in(page, stack)
    await create_agent(page)

    await say(page, mark)
    await expect(page.locator("article.message.assistant").last).to_contain_text("<img src=x")
    assert await page.title() != "owned"
    assert await page.locator("article.message.assistant img").count() == 0


async def test_a_wrong_key_is_refused_in_words(browser: Browser, stack: Stack) -> None:
    page = await browser.new_page()
    await page.goto(stack.url)
    await page.fill("#api-key", "hk_" + "A" * 43)
    await page.click("#sign-in button[type=submit]")
    await expect(page.locator("#sign-in-error")).to_be_visible()
    await expect(page.locator("#workspace")).to_be_hidden()
