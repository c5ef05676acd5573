"""Pages: what the report and the comparison of runs look like, and how their templates are filled."""

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

# Of CSS, for a `style` element; a page asks nothing of a network.
STYLE = Markup("""\
  :root { color-scheme: light dark; --ink: #1c2530; --faint: #5f6b78; --line: #d9dfe5; --tint: #f4f7fa;
    --paper: #fff; --accent: #0063a0; --warning: #c4420c; }
  @media screen and (prefers-color-scheme: dark) { :root { --ink: #e3e8ed; --faint: #a3aeb9; --line: #3a444e;
    --tint: #20272e; --paper: #14191e; --accent: #6fb7ec; --warning: #ee7733; } }
  * { box-sizing: border-box; }
  body { margin: 0; color: var(--ink); background: var(--paper); overflow-wrap: break-word;
    font: 1rem/1.55 system-ui, "Segoe UI", Helvetica, Arial, sans-serif; }
  main { max-width: 66rem; margin: 0 auto; padding: 2.5rem 1.5rem 5rem; }
  header p { color: var(--faint); margin: 0; }
  header p.found { color: var(--ink); font-size: 1.12rem; max-width: 52rem; margin: 1rem 0; }
  h1 { font-size: 2rem; line-height: 1.2; margin: 0 0 .4rem; overflow-wrap: anywhere; }
  h2 { font-size: 1.3rem; margin: 3.2rem 0 .8rem; padding-top: .9rem; border-top: 1px solid var(--line); }
  nav { display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; margin: 1.2rem 0 0; font-size: .93rem; }
  a { color: var(--accent); text-decoration: none; }
  a:hover, p a, .links a { text-decoration: underline; }
  .result { display: flex; flex-wrap: wrap; gap: 1rem; margin: 2rem 0 1rem; }
  .result div { background: var(--tint); border-radius: .5rem; padding: .8rem 1.2rem; min-width: 10rem; }
  .result b { display: block; font-size: 1.7rem; line-height: 1.25; font-variant-numeric: tabular-nums; }
  .result span { color: var(--faint); font-size: .9rem; }
  .notes { border-left: .3rem solid var(--warning); padding: .1rem 1.2rem; margin: 1.6rem 0; }
  .scroll { overflow-x: auto; }
  table { border-collapse: collapse; font-size: .93rem; font-variant-numeric: tabular-nums; }
  .scroll + .scroll { margin-top: 1.2rem; }
  th, td { padding: .3rem .8rem .3rem 0; vertical-align: top; text-align: right;
    border-bottom: 1px solid var(--line); }
  th:first-child, td:first-child { text-align: left; }
  th { font-weight: 600; color: var(--faint); }
  th[scope=row] { font-weight: 400; color: inherit; }
  .text { text-align: left; overflow-wrap: anywhere; }
  td small { color: var(--faint); display: inline-block; white-space: nowrap; }
  h3 { font-size: 1.08rem; margin: 2.2rem 0 .6rem; }
  figure { margin: 0 0 1rem; }
  /* Figures are drawn on white, and stay so: there are photographs in them. */
  figure img { display: block; max-width: 100%; height: auto; margin: 0 auto; background: #fff; }
  figure button { display: block; width: 100%; padding: 0; border: 0; background: #fff; cursor: zoom-in; }
  figure button.large { position: fixed; inset: 0; z-index: 1; height: 100%; overflow: auto;
    cursor: zoom-out; }
  figure button.large img { width: max(100%, 60rem); max-width: none; }
  .links { font-size: .93rem; margin: .7rem 0 0; }
  figcaption, .caption { color: var(--faint); font-size: .93rem; max-width: 52rem; margin-top: .7rem; }
  pre { background: var(--tint); border-radius: .5rem; padding: 1rem 1.2rem; font-size: .83rem;
    line-height: 1.45; overflow-x: auto; }
  summary { cursor: pointer; color: var(--accent); }
  @media screen and (prefers-color-scheme: dark) { figure button { border-radius: .5rem; padding: .5rem; } }
  @media (max-width: 40rem) { main { padding: 1.5rem 1rem 3rem; } }
  @media print { nav, .links, #filter { display: none; } figure, tr { break-inside: avoid; }
    h2, h3, summary { break-after: avoid; } main { padding: 0; max-width: none; } :root { font-size: 12px; }
    .scroll { overflow: visible; } table { font-size: .75rem; } th, td { padding-right: .5em; }
    td small { white-space: normal; } pre { white-space: pre-wrap; overflow-wrap: anywhere; columns: 2; }
    /* Paper has nothing to click: what is folded is printed open. */
    details::details-content { content-visibility: visible; } }
""")


def environment(*, escaped: bool = True) -> Environment:
    """Of templates: texts are escaped for HTML, and what a template names and is not given is an error."""
    return Environment(autoescape=escaped, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
