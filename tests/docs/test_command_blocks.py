from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.command_blocks import (
    CommandBlock,
    PageError,
    command_blocks,
    commands,
    documentation_blocks,
    named_block,
    runnable_blocks,
)

PAGE = """\
# Title

```sh
make demo
```

<!-- test: skip needs a GPU -->
```sh
make test-gpu
```

1. In a list:

    <!-- test: ask-the-model -->
    ```python title="ask.py"
    if True:
        print("hello")
    ```

~~~{ .yaml .annotate }
a: |
  ```
  no fence
  ```
~~~

````
```sh
shown, not run
```
````
"""


def test_blocks_have_language_line_and_text() -> None:
    blocks = command_blocks(PAGE, "page.md")
    assert blocks == [
        CommandBlock("page.md", 3, "sh", "make demo\n"),
        CommandBlock("page.md", 8, "sh", "make test-gpu\n", skip="needs a GPU"),
        CommandBlock("page.md", 15, "python", 'if True:\n    print("hello")\n', name="ask-the-model"),
        CommandBlock("page.md", 20, "yaml", "a: |\n  ```\n  no fence\n  ```\n"),
        CommandBlock("page.md", 27, "", "```sh\nshown, not run\n```\n"),
    ]
    assert blocks[0].place == "page.md:3"


def test_an_empty_block_has_no_text() -> None:
    assert command_blocks("```sh\n```\n", "page.md") == [CommandBlock("page.md", 1, "sh", "")]


def test_other_comments_before_a_fence_are_ignored() -> None:
    (block,) = command_blocks("<!-- STUB -->\n```sh\nls\n```\n", "page.md")
    assert (block.name, block.skip) == (None, None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("```sh\nls\n", "page.md:1: this code block has no closing ```"),
        ("````sh\nls\n```\n", "page.md:1: this code block has no closing ````"),
        ("<!-- test: run-it -->\n\n```sh\nls\n```\n", "page.md:1: the test comment must be on the line before"),
        ("text\n<!-- test: run-it -->\n", "page.md:2: the test comment must be on the line before"),
        ("<!-- test: skip -->\n```sh\nls\n```\n", "page.md:1: give a reason"),
        ("<!-- test: -->\n```sh\nls\n```\n", "page.md:1: '' is not a test's name"),
        ("<!-- test: Run it -->\n```sh\nls\n```\n", "page.md:1: 'Run it' is not a test's name"),
    ],
)
def test_mistakes_are_named_with_page_and_line(text: str, message: str) -> None:
    with pytest.raises(PageError) as caught:
        command_blocks(text, "page.md")
    assert str(caught.value).startswith(message)


def test_commands_of_a_block() -> None:
    block = CommandBlock("page.md", 1, "sh", "# first\nls \\\n    -l\n\nmake demo    # starts it\n")
    assert list(commands(block)) == ["ls      -l", "make demo    # starts it"]


def test_blocks_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text(PAGE, encoding="utf-8")
    (tmp_path / "other.md").write_text("# Other\n\n```sh\nls\n```\n", encoding="utf-8")
    assert [block.place for block in documentation_blocks(tmp_path)][:2] == ["other.md:3", "page.md:3"]
    assert [block.line for block in runnable_blocks("page.md", docs=tmp_path)] == [3]
    assert [block.line for block in runnable_blocks("page.md", ("sh", "yaml"), docs=tmp_path)] == [3, 20]


def test_a_named_block_is_the_only_one_of_its_name(tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text(PAGE, encoding="utf-8")
    assert named_block("page.md", "ask-the-model", docs=tmp_path).line == 15
    with pytest.raises(PageError, match="0 code blocks have the comment <!-- test: other -->"):
        named_block("page.md", "other", docs=tmp_path)


def test_every_block_of_the_documentation_can_be_read() -> None:
    assert {block.page for block in documentation_blocks()} >= {"index.md"}
