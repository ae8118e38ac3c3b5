"""Build the site: `python -m sphinx -W -n --keep-going docs build/docs`. Works offline; executes the tutorials."""

import re
import shutil
from pathlib import Path

from docutils.nodes import SkipNode
from latex2mathml.converter import convert

import issref
from issref.report.page import player_page, run_page
from issref.report.run import read_run

HERE = Path(__file__).parent
shutil.rmtree(HERE / "tutorials", ignore_errors=True)  # Sphinx reads only its own folder
shutil.copytree(HERE.parent / "tutorials", HERE / "tutorials", ignore=lambda *_: {"figures", "__pycache__"})
for recipe in (HERE / "tutorials" / "recipes").glob("*.py"):  # not executed, so no kernel names the language
    head = "# ---\n# jupyter:\n#   language_info:\n#     name: python\n#     pygments_lexer: python\n# ---\n\n"
    recipe.write_text(head + recipe.read_text(encoding="utf-8"), encoding="utf-8")

(HERE / "quick_run").mkdir(exist_ok=True)  # the quick run, played on the first page
runs = [read_run(HERE.parent / "benchmarks" / "results" / name) for name in ("small", "small-dense")]
(HERE / "quick_run" / "player.html").write_text(player_page(*runs), encoding="utf-8")
(HERE / "quick_run" / "report.html").write_text(run_page(*runs), encoding="utf-8")

project, author, copyright = "issref", "the authors of issref", "the authors of issref, MIT licence"
version = release = issref.__version__
html_title, html_theme, html_math_renderer = "issref", "furo", "mathml"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.viewcode"]
exclude_patterns = ["conf.py"]
html_extra_path = ["quick_run"]
html_static_path, html_css_files = ["static"], ["site.css"]

nb_custom_formats = {".py": ["jupytext.reads", {"fmt": "py:percent"}]}
nb_execution_excludepatterns = ["tutorials/recipes/*"]  # they need all frameworks; their results are stored
nb_execution_mode, nb_execution_in_temp, nb_execution_timeout = "force", True, 300
nb_execution_show_tb = nb_merge_streams = True
nb_render_markdown_format = "myst"
smartquotes_action = "qe"  # keep the two dashes of a flag
myst_enable_extensions, myst_heading_anchors = ["dollarmath", "deflist"], 3

autodoc_member_order, autodoc_typehints_format = "bysource", "short"
autodoc_preserve_defaults, add_module_names = True, False
python_maximum_signature_line_length = 88
nitpick_ignore_regex = [  # links to other packages need the internet; type variables have no entry
    ("py:.*", r"(?!issref\.).*|.*Annotated.*|issref\.data\.schema\.Form|issref\.training\.command\.C")
]

PUBLIC = {name: f"{vars(issref)[name].__module__}.{name}" for name in issref.__all__}


def signature(app, what, name, obj, options, arguments, returned):
    """Abbreviate the union of all dtype-like types to NumPy's name, DTypeLike."""
    return arguments and re.sub(r"type\[[^|]*\] \| .*?_DTypeDict \| str", "DTypeLike", arguments), returned


def docstring(app, what, name, obj, options, lines):
    """Translate a plain-text docstring to reStructuredText."""
    blocks = "\n".join(lines).strip("\n").split("\n\n")
    lines[:] = [line for block in blocks for line in (*written(block), "")]
    if lines[0].startswith("Alias for field number"):  # Python's default docstring of NamedTuple fields
        lines.clear()


def written(block: str) -> list[str]:
    """Translate one paragraph: keep examples, make equations, tables and commands literal, escape text."""
    if block.startswith(">>>"):
        return block.splitlines()
    if block.startswith((" ", "python -m ")):
        return [".. code-block:: text", "", *(f"   {line}" for line in block.splitlines())]
    pieces = re.split("`([^`]+)`", " ".join(block.split()))
    return ["".join(code(piece) if odd % 2 else escaped(piece) for odd, piece in enumerate(pieces))]


def code(text: str) -> str:
    return f":py:obj:`{text} <{PUBLIC[text]}>`" if text in PUBLIC else f"``{text}``"


def escaped(text: str) -> str:
    return re.sub(r"([\\*_|`])", r"\\\1", text)


def mathml(display: str):
    """Return a visitor that writes formulas as MathML, so that pages load no scripts."""

    def visit(translator, node):
        formula = node.astext().replace(r"\Big", "").replace(r"\arg", r"\operatorname{arg}")  # not in latex2mathml
        found = convert(formula, display=display)
        bar = '<mo stretchy="false">&#x0007C;'  # a norm, not "divides"
        translator.body.append(found.replace(bar, bar.replace("<mo", '<mo lspace="0em" rspace="0em"')))
        raise SkipNode

    return visit, None


def setup(app):
    app.add_html_math_renderer("mathml", mathml("inline"), mathml("block"))
    app.connect("autodoc-process-signature", signature)
    app.connect("autodoc-process-docstring", docstring)
