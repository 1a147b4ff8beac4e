"""The HTML of every page, as strings: a Flower bundle carries no HTML files."""

STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #16191c; --line: #d9dde1;
  --quiet: #555f68; --accent: #0072b2; --note: #fff8ea;
  --shade: #0004; }
@media screen and (prefers-color-scheme: dark) {
  :root { --paper: #14171a; --ink: #e4e7ea; --line: #3a4149; --quiet: #a3acb5; --accent: #6bb8ee;
    --note: #2b2413; --shade: #fff5; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; }
main, header, footer { max-width: 68rem; margin: 0 auto; padding: 0 1rem; }
header { padding-top: 1.5rem; }
h1 { margin: 0; font-size: 1.6rem; line-height: 1.25; overflow-wrap: anywhere; }
h2 { margin: 2.5rem 0 .5rem; padding-top: .6rem; border-top: 2px solid var(--ink);
  font-size: 1.2rem; }
p { max-width: 46rem; margin: .5rem 0; overflow-wrap: anywhere; }
nav { margin: 1rem 0 0; font-size: .9rem; }
nav a { margin-right: .9rem; white-space: nowrap; color: var(--accent); }
.lede { max-width: 62rem; font-size: 1.2rem; line-height: 1.45; }
.status-line { max-width: none; }
.quiet, figcaption, footer { color: var(--quiet); font-size: .875rem; }
.status { padding: .1rem .5rem; border: 1px solid; border-radius: 1rem; font-size: .875rem; }
.note { max-width: none; margin: .5rem 0; padding: .3rem .75rem; border-left: .3rem solid #e69f00;
  background: var(--note); font-size: .9rem; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: .75rem;
  margin: 1rem 0; padding: 0; list-style: none; }
.cards li { max-width: 17rem; padding: .6rem .75rem; border: 1px solid var(--line);
  border-radius: .4rem; }
.cards b { display: block; font-size: 1.7rem; line-height: 1.25;
  font-variant-numeric: tabular-nums; }
.cards li { overflow-wrap: anywhere; }
.cards span { display: block; font-size: .85rem; color: var(--quiet); }
.cards span:first-child { color: inherit; font-weight: 600; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr));
  gap: 1rem; align-items: start; }
figure { margin: .75rem 0; max-width: 36rem; }
figure img { display: block; width: 100%; height: auto; }
.front img { width: auto; max-width: 100%; max-height: 22rem; }
.faces { display: grid; grid-template-columns: repeat(auto-fill, minmax(9rem, 1fr)); gap: 1rem; }
.faces figure { margin: .25rem 0; }
.faces img { width: auto; height: 7.5rem; border-radius: .3rem; }
.wide { max-width: none; }
/* A shade at an edge says that there is more to scroll to; the first column stays in sight. */
.table { overflow-x: auto; background:
  linear-gradient(90deg, var(--paper) 1rem, transparent 2rem) local,
  linear-gradient(270deg, var(--paper) 1rem, transparent 2rem) 100% 0 local,
  linear-gradient(90deg, var(--shade), transparent .8rem),
  linear-gradient(270deg, var(--shade), transparent .8rem) 100% 0; }
tbody th:first-child { position: sticky; left: 0; background: var(--paper); }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .75rem .3rem 0; border-bottom: 1px solid var(--line); text-align: right;
  vertical-align: top; }
th:first-child { text-align: left; font-weight: 600; overflow-wrap: anywhere; min-width: 6.5rem; }
thead th { vertical-align: bottom; border-bottom-color: var(--ink); }
.words td { min-width: 6.5rem; text-align: left; overflow-wrap: anywhere; }
.words th, th.text { text-align: left; }
td.text { min-width: 6.5rem; max-width: 30rem; text-align: left; overflow-wrap: anywhere; }
td small { display: block; color: var(--quiet); white-space: nowrap; }
summary { cursor: pointer; color: var(--accent); }
footer { margin-top: 3rem; padding-bottom: 2rem; }
@media (max-width: 40rem) {
  h1 { font-size: 1.35rem; }
  .lede { font-size: 1.05rem; }
  nav { display: flex; overflow-x: auto; padding-bottom: .3rem; }
  /* A table of words is a list: each row a block, its name on top. */
  .words, .words tbody, .words tr, .words td, .words th { display: block; }
  .words thead { display: none; }
  .words tr { padding: .35rem 0; border-bottom: 1px solid var(--line); }
  .words td, .words th { padding: 0; border: 0; }
  .words td[data-of]::before { content: attr(data-of) ": "; color: var(--quiet); }
}
@page { margin: 1.5cm; }
@media print {
  body { font-size: 10pt; }
  nav { display: none; }
  main, header, footer { max-width: none; }
  h2 { break-after: avoid; }
  figure, .cards li, .note, tr { break-inside: avoid; }
  .table { overflow: visible; background: none; }
  table { font-size: 8pt; }
  th, td { padding-right: .4rem; }
  tbody th:first-child { position: static; }
  .figures { grid-template-columns: 1fr 1fr; }
  details::details-content { content-visibility: visible; block-size: auto; }
}
"""

PAGE = """
{%- macro side(it, column) %}{% if column in it.texts %} class="text"{% endif %}{% endmacro -%}

{%- macro of(it, column) %}{% if it.words and not it.header[0] %} data-of="{{ it.header[column] }}"
{%- endif %}{% endmacro -%}

{%- macro cells(it, row) -%}
{%- for cell in row %}<td{{ side(it, loop.index) }}{{ of(it, loop.index) }}>
{%- if cell is string %}{{ cell }}
{%- else %}{{ cell[0] }}
{%- for line in cell[1:] if line %}<small>{{ line }}</small>{% endfor %}{% endif %}</td>
{%- endfor %}
{%- endmacro -%}

{%- macro table(it) %}
{%- if it.folded %}<details><summary>{{ it.caption }}</summary>
{%- else %}<figure class="wide"><figcaption>{{ it.caption }}</figcaption>{% endif %}
<div class="table" tabindex="0" role="region" aria-label="{{ it.caption }}">
<table{% if it.words %} class="words"{% endif %}>
<thead><tr>
{%- for name in it.header %}<th scope="col"{{ side(it, loop.index0) }}>{{ name }}</th>{% endfor -%}
</tr></thead>
<tbody>
{%- for row in it.rows %}
<tr><th scope="row">{{ row[0] }}</th>{{ cells(it, row[1:]) }}</tr>
{%- endfor %}
</tbody></table></div>
{%- if it.folded %}</details>{% else %}</figure>{% endif %}
{%- endmacro -%}

{%- macro picture(it) %}
<figure><img src="{{ it.url }}" alt="{{ it.alt }}"
 width="{{ it.width }}" height="{{ it.height }}">
<figcaption>{{ it.caption }}</figcaption></figure>
{%- endmacro -%}

<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<link rel="icon" href="data:,">
<title>{{ title }}</title>
<style>{{ style | safe }}</style>
</head>
<body>
<header>
<h1>{{ title }}</h1>
{%- if lede %}<p class="lede">{{ lede }}</p>{% endif %}
<p class="status-line">{% if status %}<span class="status">{{ status }}</span> {% endif %}
<span class="quiet">{{ subtitle }}</span></p>
{%- for note in notes %}<p class="note">{{ note }}</p>{% endfor %}
{%- if front %}
<div class="figures front">{% for it in front %}{{ picture(it) }}{% endfor %}</div>
{%- endif %}
<nav aria-label="Sections">
{%- for section in sections %}<a href="#s{{ loop.index }}">{{ section.title }}</a> {% endfor -%}
</nav>
</header>
<main>
{%- for section in sections %}
<section aria-labelledby="s{{ loop.index }}">
<h2 id="s{{ loop.index }}">{{ section.title }}</h2>
{%- for block in section.blocks %}
{%- if block is string %}
<p>{{ block }}</p>
{%- elif block.kind == "cards" %}
<ul class="cards">
{%- for label, value, detail in block.cards %}
<li><span>{{ label }}</span><b>{{ value }}</b><span>{{ detail }}</span></li>
{%- endfor %}
</ul>
{%- elif block.kind == "figures" %}
<div class="{{ 'faces' if block.small else 'figures' }}">
{%- for it in block.pictures %}{{ picture(it) }}{% endfor %}</div>
{%- else %}{{ table(block) }}
{%- endif %}
{%- endfor %}
</section>
{%- endfor %}
</main>
<footer>{{ footer }}</footer>
</body>
</html>
"""
