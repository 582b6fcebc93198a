"""Before and after a language model: trivial checks here, heavy formatting in a worker.

Cleaning and validating a prompt takes microseconds, so those tasks say `cost="trivial"` and run in this process; a bad
prompt never reaches the model. Turning a long answer into HTML takes a while, so that task asks for a process of its
own. `ask_model` stands for a request to a real model: it waits, and waiting needs no worker.
"""

import asyncio
import html
import re

from hybrid_compute import Runtime, task
from hybrid_compute.errors import TaskFailed

LONGEST = 200


@task(cost="trivial")
def clean(prompt: str) -> str:
    """Without control characters and repeated blanks."""
    return " ".join(re.sub(r"[\x00-\x08\x0b-\x1f]", "", prompt).split())


@task(cost="trivial")
def validate(prompt: str) -> str:
    if not prompt:
        raise ValueError("the prompt is empty")
    if len(prompt) > LONGEST:
        raise ValueError(f"the prompt has {len(prompt)} characters, {LONGEST} are allowed")
    return prompt


@task(cost="io")
async def ask_model(prompt: str) -> str:
    await asyncio.sleep(0.05)
    paragraph = f"You asked: **{prompt}** Here is a list:\n\n- first `code`\n- then *more* <text>"
    return "# Answer\n\n" + "\n\n".join([paragraph] * 500)


@task(needs={"process"}, pure=True, timeout=10.0)
def to_html(markdown: str) -> str:
    return "\n".join(block_to_html(block) for block in markdown.split("\n\n"))


def block_to_html(block: str) -> str:
    text = html.escape(block, quote=False)
    text = re.sub(r"\*\*(.+?)\*\*", r"<b>\1</b>", text)
    text = re.sub(r"\*(.+?)\*", r"<i>\1</i>", text)
    text = re.sub(r"`(.+?)`", r"<code>\1</code>", text)
    if text.startswith("# "):
        return f"<h1>{text[2:]}</h1>"
    if text.startswith("- "):
        return "<ul>" + "".join(f"<li>{item[2:]}</li>" for item in text.splitlines()) + "</ul>"
    return f"<p>{text}</p>"


async def answer(rt: Runtime, prompt: str) -> str:
    """The whole way of one prompt, each step where it runs best."""
    checked = await rt.run(validate, await rt.run(clean, prompt))
    return await rt.run(to_html, await rt.run(ask_model, checked))


async def main() -> None:
    async with Runtime() as rt:
        page = await answer(rt, "  How do\tbees\x07 find   home?  ")
        print(page[:140])
        for bad in ("  \x00 ", "why? " * 100):
            try:
                await answer(rt, bad)
            except TaskFailed as error:
                print(f"refused: {error.__cause__}")
        places = {name: list(tallies) for name, tallies in rt.stats().items()}
    for name, where in places.items():
        print(f"{name:10} ran at {', '.join(where)}")
    assert "<p>You asked: <b>How do bees find home?</b>" in page
    assert places == {"clean": ["local"], "validate": ["local"], "ask_model": ["local"], "to_html": ["worker"]}


if __name__ == "__main__":
    asyncio.run(main())
