import re
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_every_module_has_one_place_on_the_pages_of_the_api() -> None:
    modules = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in (ROOT / "wna_jax").rglob("*.py")
    }
    pages = "\n".join(path.read_text() for path in (ROOT / "docs").rglob("*.md"))
    assert sorted(re.findall(r"^::: (\S+)", pages, re.MULTILINE)) == sorted(modules)
