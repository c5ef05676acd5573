"""Pages: what the report and the comparison of runs look like, and how their templates are filled."""

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

# Of CSS, for a `style` element; a page asks nothing of a network.
STYLE = Markup("""\
  :root { --ink: #1c2530; --faint: #5f6b78; --line: #d9dfe5; --tint: #f4f7fa; --accent: #0072b2; }
  * { box-sizing: border-box; }
  body { margin: 0; color: var(--ink); background: #fff;
    font: 16px/1.55 system-ui, "Segoe UI", Helvetica, Arial, sans-serif; }
  main { max-width: 66rem; margin: 0 auto; padding: 2.5rem 1.5rem 5rem; }
  header p { color: var(--faint); margin: 0; }
  h1 { font-size: 2rem; line-height: 1.2; margin: 0 0 .4rem; }
  h2 { font-size: 1.3rem; margin: 3.2rem 0 .8rem; padding-top: .9rem; border-top: 1px solid var(--line); }
  nav { margin: 1.2rem 0 0; font-size: .93rem; }
  nav a { margin-right: 1.1rem; }
  a { color: var(--accent); text-decoration: none; }
  a:hover { text-decoration: underline; }
  .result { display: flex; flex-wrap: wrap; gap: 1rem; margin: 2rem 0 1rem; }
  .result div { background: var(--tint); border-radius: .5rem; padding: .8rem 1.2rem; min-width: 10rem; }
  .result b { display: block; font-size: 1.7rem; line-height: 1.25; font-variant-numeric: tabular-nums; }
  .result span { color: var(--faint); font-size: .9rem; }
  .notes { border-left: .3rem solid #d55e00; padding: .1rem 1.2rem; margin: 1.6rem 0; }
  .scroll { overflow-x: auto; }
  table { border-collapse: collapse; font-size: .93rem; font-variant-numeric: tabular-nums; }
  .scroll + .scroll { margin-top: 1.2rem; }
  th, td { padding: .3rem .8rem .3rem 0; vertical-align: top; text-align: right;
    border-bottom: 1px solid var(--line); }
  th:first-child, td:first-child { text-align: left; }
  th { font-weight: 600; color: var(--faint); }
  td small { color: var(--faint); display: inline-block; white-space: nowrap; }
  h3 { font-size: 1.08rem; margin: 2.2rem 0 .6rem; }
  figure { margin: 0 0 1rem; }
  figure img { display: block; max-width: 100%; height: auto; margin: 0 auto; }
  figcaption, .caption { color: var(--faint); font-size: .93rem; max-width: 52rem; margin-top: .7rem; }
  pre { background: var(--tint); border-radius: .5rem; padding: 1rem 1.2rem; font-size: .83rem;
    line-height: 1.45; overflow-x: auto; }
  summary { cursor: pointer; color: var(--accent); }
  @media print { nav { display: none; } h2, figure, table { break-inside: avoid; }
    details { display: none; } }
""")


def environment() -> Environment:
    """Of templates: texts are escaped, and what a template names and is not given is an error."""
    return Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
