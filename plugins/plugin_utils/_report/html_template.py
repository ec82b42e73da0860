# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: E501 - lines of markup are not wrapped inside an element.

"""Style and layout of the HTML pages as Jinja2 templates, which escape all text. Other files contain the text.

The pages do not load files or run scripts. The Content-Security-Policy of a page allows only the page's own style,
which is identified by its hash.
"""

from __future__ import annotations

STYLE = """
:root { color-scheme: light dark;
  --page: #f4f6f8; --card: #ffffff; --ink: #1b2430; --quiet: #5a6675; --line: #dbe1e8; --code: #eef1f5;
  --good: #19784a; --bad: #bf3029; --attention: #9a5b00; --work: #3a6db3; --unsure: #8e99a8; --on: #ffffff; }
@media (prefers-color-scheme: dark) { :root {
  --page: #0e1218; --card: #161c25; --ink: #e5e9ef; --quiet: #9aa6b6; --line: #2b3441; --code: #1f2732;
  --good: #43b97c; --bad: #f0736a; --attention: #e2a544; --work: #74a6ea; --unsure: #7d8898; --on: #0e1218; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); overflow-wrap: anywhere;
  font: 15px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Hiragino Sans", "Yu Gothic UI", Meiryo,
    "Noto Sans", "Noto Sans CJK JP", sans-serif; }
main { max-width: 1040px; margin: 0 auto; padding: 24px 20px 48px; }
section, header { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 18px 22px;
  margin: 0 0 16px; }
header { border-left: 6px solid var(--tone); }
.good { --tone: var(--good); } .bad { --tone: var(--bad); } .attention { --tone: var(--attention); }
.head { display: flex; flex-wrap: wrap; gap: 8px 28px; justify-content: space-between; align-items: baseline; }
h1 { font-size: 1.05rem; font-weight: 600; color: var(--quiet); margin: 0 0 6px; }
h2 { font-size: 1.05rem; margin: 0 0 12px; }
p { margin: 8px 0; } section > :last-child { margin-bottom: 0; }
.verdict { font-size: 1.75rem; line-height: 1.25; font-weight: 700; color: var(--tone); margin: 0; }
.big { font-size: 1.75rem; line-height: 1.25; font-weight: 700; margin: 0; white-space: nowrap; }
.big small { font-size: .95rem; font-weight: 400; color: var(--quiet); margin-right: 8px; }
.facts { display: grid; grid-template-columns: max-content 1fr; gap: 4px 18px; margin: 14px 0 0; }
.facts dt { color: var(--quiet); } .facts dd { margin: 0; }
.next { margin: 14px 0 0; padding: 10px 14px; border-radius: 8px; background: var(--code); }
.next p { margin: 4px 0 0; }
.note { margin: 10px 0 0; padding-left: 12px; border-left: 3px solid var(--attention); color: var(--quiet); }
.measures { display: grid; grid-template-columns: repeat(auto-fit, minmax(210px, 1fr)); gap: 12px; }
.measures div { border: 1px solid var(--line); border-radius: 8px; padding: 10px 14px; }
.measures p { margin: 0; } .measures .value { font-size: 1.3rem; font-weight: 650; }
.measures .meaning, .quiet { color: var(--quiet); font-size: .86rem; }
.wide { overflow-x: auto; } table.steps { min-width: 600px; }
.columns { display: grid; grid-template-columns: 330px 1fr; gap: 12px 28px; align-items: start; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; }
th { text-align: left; font-weight: 600; color: var(--quiet); }
th, td { padding: 5px 12px 5px 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th:last-child, td:last-child { padding-right: 0; }
.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
th.number { text-align: right; } td.time { white-space: nowrap; font-variant-numeric: tabular-nums; color: var(--quiet); }
td.part { white-space: nowrap; }
tr.failure td { color: var(--bad); } tr.change td.what { font-weight: 600; } tr.moment td { background: var(--code); }
tr.run td { border-top: 2px solid var(--quiet); font-weight: 600; }
tr.day th { padding-top: 12px; color: var(--ink); }
table.cards th, table.cards td { padding-right: 20px; white-space: nowrap; overflow-wrap: normal; }
table.cards td.about { white-space: normal; min-width: 7em; } table.cards td.number { font-weight: 600; }
table.cards b { color: var(--tone); } .lost { display: inline-block; padding: 0 8px; border-radius: 9px; font-size: .82rem;
  font-weight: 600; color: var(--bad); border: 1px solid var(--bad); }
table.checks td:first-child { font-weight: 600; white-space: nowrap; } table.checks td:nth-child(2) { white-space: nowrap; }
table.checks b { color: var(--tone); } table.checks p { margin: 0; }
table.checks .do { color: var(--quiet); } table.checks .do::before { content: "\\2192\\00a0"; }
h2 b { color: var(--tone); }
tr.fewer td { color: var(--bad); font-weight: 600; }
code { background: var(--code); border-radius: 4px; padding: 1px 5px; font: .86em/1.5 ui-monospace, "SFMono-Regular",
  Menlo, Consolas, "DejaVu Sans Mono", "Noto Sans Mono CJK JP", monospace; }
ul, ol { margin: 6px 0; padding-left: 22px; } li { margin: 3px 0; }
details { margin-top: 12px; } summary { cursor: pointer; color: var(--work); }
.finding { border-top: 1px solid var(--line); padding: 12px 0 2px; } .finding:first-of-type { border-top: 0; padding-top: 0; }
.finding p { margin: 0 0 4px; } .finding .cause { font-weight: 650; }
.sure { display: inline-block; margin-left: 8px; padding: 0 8px; border-radius: 9px; font-size: .82rem;
  border: 1px solid var(--line); color: var(--quiet); }
.finding ul { list-style: none; padding-left: 0; font-size: .9rem; } .finding .source { color: var(--quiet); margin-right: 8px; }
.todo { list-style: none; padding-left: 0; }
.todo li { padding-left: 28px; position: relative; }
.todo li::before { content: ""; position: absolute; left: 3px; top: .32em; width: 13px; height: 13px; border-radius: 3px;
  border: 1.5px solid var(--work); }
.todo li.settled { color: var(--quiet); } .todo li.settled::before { border: 0; content: "\\2013"; top: -.05em; left: 7px; }
.todo b { font-weight: 650; }
footer { color: var(--quiet); font-size: .86rem; padding: 0 4px; }
a { color: var(--work); }
svg { display: block; width: 100%; font-size: 12px; } svg text { fill: var(--ink); }
svg.timeline { min-width: 720px; } svg.ladder { max-width: 330px; }
.lane { font-size: 12.5px; } .axis, .marked { font-size: 11.5px; } .in { font-weight: 600; }
svg text.beside, svg text.axis, svg text.marked { fill: var(--quiet); } svg text.in { fill: var(--on); }
.rule { stroke: var(--line); } .tick { stroke: var(--quiet); } .mark { stroke: var(--quiet); stroke-dasharray: 2 3; }
.bar.good { fill: var(--good); } .bar.bad { fill: var(--bad); } .bar.work { fill: var(--work); }
.bar.unsure { fill: var(--unsure); opacity: .55; }
.cut { fill: var(--code); } .break { stroke: var(--card); stroke-width: 7; fill: none; }
.rail { stroke: var(--unsure); stroke-width: 6; stroke-linecap: round; }
.rung { fill: var(--work); } .rung.held { fill: var(--good); } .rung.not { fill: var(--bad); }
.rung.skipped { fill: var(--unsure); } .rung.rest { fill: var(--card); stroke: var(--unsure); stroke-width: 1.5; stroke-dasharray: 4 3; }
.sign { fill: none; stroke: var(--on); stroke-width: 2.4; stroke-linecap: round; stroke-linejoin: round; }
.name { font-size: 13.5px; font-weight: 600; }
svg text.told { fill: var(--quiet); } svg text.told.held { fill: var(--good); } svg text.told.not { fill: var(--bad); }
@media screen and (max-width: 760px) {
  main { padding: 12px 10px 32px; } section, header { padding: 14px; } .columns { grid-template-columns: 1fr; }
  .facts { grid-template-columns: 1fr; gap: 0; } .facts dd { margin-bottom: 8px; }
  .big { font-size: 1.35rem; white-space: normal; } .verdict { font-size: 1.5rem; }
  td.time:has(+ td.time), th.zone:has(+ th.zone) { display: none; }
  table.marks td { white-space: normal; }
  table.cards, table.cards tbody { display: block; } table.cards thead { display: none; }
  table.cards tr { display: flex; flex-wrap: wrap; gap: 2px 14px; padding: 10px 0; border-bottom: 1px solid var(--line); }
  table.cards td { border: 0; padding: 0; text-align: left; } table.cards td.time, table.cards td.link { flex: 0 0 100%; }
  table.cards td.about { min-width: 0; }
  table.checks, table.checks tbody, table.checks td.told { display: block; } table.checks thead { display: none; }
  table.checks tr { display: flex; flex-wrap: wrap; gap: 0 14px; padding: 8px 0; border-bottom: 1px solid var(--line); }
  table.checks td { border: 0; padding: 0; } table.checks td.told { flex: 0 0 100%; }
  table.steps { min-width: 0; } table.steps, table.steps tbody { display: block; } table.steps thead { display: none; }
  table.steps tr { display: flex; flex-wrap: wrap; gap: 0 10px; padding: 6px 8px; border-bottom: 1px solid var(--line); }
  table.steps tr.moment { background: var(--code); } table.steps td, table.steps th { border: 0; padding: 0; }
  table.steps td.part { flex: 1; } table.steps td.what { order: 1; flex: 0 0 100%; } }
@media print {
  :root { color-scheme: light; --page: #fff; --card: #fff; --ink: #000; --quiet: #444; --line: #ccc; --code: #f2f2f2;
    --good: #19784a; --bad: #b02a23; --attention: #8a5200; --work: #3a6db3; --unsure: #8e99a8; --on: #fff; }
  @page { margin: 14mm 12mm; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  body { font-size: 10.5pt; } main { max-width: none; padding: 0; }
  section, header { border-radius: 0; border-width: 0 0 1px; padding: 8px 0 10px; margin: 0 0 6px; }
  header { border-left-width: 6px; padding-left: 14px; }
  h2 { break-after: avoid; } tr, .finding, .measures div, svg, li { break-inside: avoid; }
  svg.timeline, table.steps { min-width: 0; } .wide { overflow: visible; } a { color: inherit; }
  .every { display: none; } table { font-size: 9.5pt; }
  .measures { grid-template-columns: repeat(3, 1fr); } .measures .value { font-size: 1.1rem; }
  details::details-content { content-visibility: visible; display: block; } summary { list-style: none; color: inherit; }
}
"""

_PAGE = """<!DOCTYPE html>
<html lang="{{ language }}">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{{ policy }}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
<title>{{ title }}</title>
<style>{{ style }}</style>
</head>
<body>
<main>
%s
<footer>{{ footer }}</footer>
</main>
</body>
</html>
"""

_TABLE_OF_STEPS = """
{%- macro table_of_steps(rows) %}
<div class="wide"><table class="steps">
<thead><tr>{% for name in time_columns %}<th class="zone">{{ name }}</th>{% endfor -%}
<th>{{ say("doc.column.part") }}</th><th>{{ say("doc.column.what") }}</th>
<th class="number">{{ say("doc.column.took") }}</th></tr></thead>
<tbody>
{% for row in rows -%}
{% if row.kind == "day" %}<tr class="day"><th colspan="{{ 3 + time_columns | length }}">{{ row.day }}</th></tr>
{% else %}<tr class="{{ row.kind }}">{% for at in row.times %}<td class="time">{{ at }}</td>{% endfor -%}
<td class="part">{{ row.part }}</td><td class="what">{{ row.what }}</td><td class="number">{{ row.took }}</td></tr>
{% endif %}{% endfor -%}
</tbody></table></div>
{%- endmacro %}
{%- macro findings(told) %}
{% for finding in told %}
<div class="finding"><p><span class="cause">{{ finding.name }}</span>
{%- if finding.sure %}<span class="sure">{{ finding.sure }}</span>{% endif %}</p>
<p>{{ finding.summary }}</p>
{% if finding.evidence %}<ul>{% for source, text in finding.evidence %}
<li>{% if source %}<span class="source">{{ source }}</span>{% endif %}<code>{{ text }}</code></li>{% endfor %}</ul>{% endif %}
</div>
{% endfor %}
{%- endmacro %}
"""

INCIDENT = (
    _TABLE_OF_STEPS
    + _PAGE
    % """
<header class="{{ tone }}">
<h1>{{ title }}</h1>
<div class="head">
<p class="verdict">{{ outcome }}</p>
<p class="big"><small>{{ say("doc.outage") }}</small>{{ outage }}</p>
</div>
<dl class="facts">{% for name, text in facts %}<dt>{{ name }}</dt><dd>{{ text }}</dd>{% endfor %}</dl>
{% if next_steps %}<div class="next"><b>{{ say("doc.next") }}</b>
{% for each in next_steps %}<p>{% if each.command %}<code>{{ each.text }}</code>{% else %}{{ each.text }}{% endif %}</p>
{% endfor %}</div>{% endif %}
{% for note in notes %}<p class="note">{{ note }}</p>{% endfor %}
</header>

{% if picture %}<section><h2>{{ say("page.picture") }}</h2><div class="wide">{{ picture }}</div></section>{% endif %}

<section><h2>{{ say("doc.when") }}</h2>
<div class="wide"><table class="marks"><thead><tr><th></th>{% for name in time_columns %}<th class="zone">{{ name }}</th>{% endfor -%}
<th class="number">{{ say("doc.after_begin") }}</th></tr></thead><tbody>
{% for row in marks %}<tr><td class="part">{{ row.name }}</td>{% for at in row.times %}<td class="time">{{ at }}</td>{% endfor -%}
<td class="number">{{ row.after }}</td></tr>
{% endfor %}</tbody></table></div>
{% for source in sources %}<p class="quiet">{{ source }}</p>{% endfor %}
<div class="measures">{% for each in measures %}
<div><p>{{ each.title }}</p><p class="value">{{ each.value }}</p><p class="meaning">{{ each.meaning }}</p></div>{% endfor %}
</div></section>

<section><h2>{{ say("doc.detection") }}</h2>{% for each in detected %}<p>{{ each }}</p>{% endfor %}</section>

<section><h2>{{ say("doc.impact") }}</h2>
<dl class="facts">{% for name, text in impact %}<dt>{{ name }}</dt><dd>{{ text }}</dd>{% endfor -%}
{% if methods %}<dt>{{ say("doc.methods") }}</dt><dd><ul>{% for each in methods -%}
<li>{{ each.head }}{% if each.facts %}<ul>{% for fact in each.facts %}<li>{{ fact }}</li>{% endfor %}</ul>{% endif %}</li>{% endfor %}</ul></dd>{% endif %}</dl>
{% if rows %}<details{% if rows_open %} open{% endif %}><summary>{{ say("doc.rows_by_table") }}</summary>
<div class="wide"><table><thead><tr><th>{{ say("doc.column.table") }}</th><th class="number">{{ say("doc.column.before") }}</th>
<th class="number">{{ say("doc.column.after") }}</th><th class="number">{{ say("doc.column.change") }}</th></tr></thead><tbody>
{% for row in rows %}<tr{% if row.fewer %} class="fewer"{% endif %}><td><code>{{ row.table }}</code></td>
<td class="number">{{ row.before }}</td><td class="number">{{ row.after }}</td><td class="number">{{ row.change }}</td></tr>
{% endfor %}</tbody></table></div></details>{% endif %}</section>

<section><h2>{{ say("doc.cause") }}</h2>
{{ findings(causes) }}
{% if not causes %}<p>{{ no_cause }}</p>{% endif %}
{% if noted %}<details><summary>{{ also_noted }}</summary>{{ findings(noted) }}</details>{% endif %}</section>

<section><h2>{{ say("doc.recovery") }}</h2>
<div class="columns">
<div><p class="quiet">{{ say("page.ladder") }}</p>{{ ladder }}</div>
<div>
{% if climbs %}<ol>{% for climb in climbs %}<li><b>{{ climb.name }}</b>{% if climb.told %} {{ climb.told }}{% endif %}
{% if climb.facts %}<ul>{% for fact in climb.facts %}<li>{{ fact }}</li>{% endfor %}</ul>{% endif %}</li>{% endfor %}</ol>
{% else %}<p>{{ nothing_taken }}</p>{% endif %}
{% if skips %}<ul>{% for each in skips %}<li>{{ each }}</li>{% endfor %}</ul>{% endif %}
{% if login %}<p>{{ login }}</p>{% endif %}
</div></div></section>

<section><h2>{{ say("doc.prevention") }}</h2>
<ul class="todo">{% for item in actions -%}
<li{% if not item.wanted %} class="settled"{% endif %}>
{#- #}<b>{{ item.title if item.wanted else say("action.not_needed", title=item.title) }}</b><br>{{ item.why }}</li>
{% endfor %}</ul></section>

<section><h2>{{ say("doc.timeline") }}</h2>{{ table_of_steps(timeline) }}
{% if every %}<details class="every"><summary>{{ say("doc.all_steps", number=every | length) }}</summary>{{ table_of_steps(every) }}</details>{% endif %}
</section>

<section><h2>{{ say("doc.changes") }}</h2><p>{{ changes_told }}</p>
{% if changes %}<div class="wide"><table class="cards"><thead><tr>{% for name in time_columns %}<th class="zone">{{ name }}</th>{% endfor -%}
<th>{{ say("doc.column.gap") }}</th><th>{{ say("doc.column.changed") }}</th><th>{{ say("doc.column.values") }}</th>
<th>{{ say("doc.column.relation") }}</th></tr></thead><tbody>
{% for each in changes %}<tr>{% for at in each.times %}<td class="time">{{ at }}</td>{% endfor -%}
<td class="about">{{ each.gap }}</td><td class="about">{{ each.what }}</td><td class="about">{{ each.change }}</td>
<td class="about">{{ each.relation }}</td></tr>
{% endfor %}</tbody></table></div>{% endif %}</section>

<section><h2>{{ say("doc.notifications") }}</h2><p>{{ told }}</p>
{% if tellings %}<div class="wide"><table class="cards"><thead><tr>{% for name in time_columns %}<th class="zone">{{ name }}</th>{% endfor -%}
<th>{{ say("doc.column.who") }}</th><th>{{ say("doc.column.by") }}</th><th>{{ say("doc.column.came") }}</th></tr></thead><tbody>
{% for each in tellings %}<tr{% if not each.reached %} class="failure"{% endif %}>
{%- for at in each.times %}<td class="time">{{ at }}</td>{% endfor -%}
<td class="about">{{ each.who }}</td><td class="about">{{ each.by }}</td><td class="about">{{ each.came }}</td></tr>
{% endfor %}</tbody></table></div>{% endif %}</section>

<section><h2>{{ say("doc.evidence") }}</h2>
<dl class="facts">{% for name, text in evidence %}<dt>{{ name }}</dt><dd><code>{{ text }}</code></dd>{% endfor %}</dl>
{% if no_evidence %}<p>{{ no_evidence }}</p>{% endif %}
{% if not_copied %}<p>{{ not_copied }}</p>{% endif %}</section>
"""
)

INDEX = (
    _PAGE
    % """
<section><h2>{{ title }}</h2>
{% if rows %}<div class="wide"><table class="cards"><thead><tr><th>{{ say("doc.mark.started") }}</th><th>{{ say("page.host") }}</th>
<th>{{ say("page.outcome") }}</th><th class="number">{{ say("doc.outage") }}</th><th>{{ say("doc.cause_label") }}</th>
<th>{{ say("page.incident") }}</th></tr></thead><tbody>
{% for row in rows %}<tr><td class="time">{{ row.at }}</td><td>{{ row.host }}</td><td class="about {{ row.tone }}"><b>{{ row.outcome }}</b>
{%- if row.data_loss %} <span class="lost">{{ say("doc.data_loss") }}</span>{% endif %}</td>
<td class="number">{{ row.outage }}</td><td class="about">{{ row.cause }}</td><td class="link"><a href="{{ row.file }}">{{ row.incident }}</a></td></tr>
{% endfor %}</tbody></table></div>{% else %}<p>{{ say("page.index.none") }}</p>{% endif %}</section>
"""
)

READINESS = (
    _PAGE
    % """
<header class="{{ tone }}">
<h1>{{ title }}</h1>
<p class="verdict">{{ verdict }}</p>
<p>{{ summary }}</p>
</header>
{% for host in hosts %}
<section class="{{ host.tone }}"><h2>{{ host.name }} <b>{{ host.verdict }}</b></h2>
<p class="quiet">{{ host.counts }}</p>
<table class="checks"><thead><tr><th>{{ say("ready.column.check") }}</th><th>{{ say("ready.column.verdict") }}</th>
<th>{{ say("ready.column.told") }}</th></tr></thead><tbody>
{% for line in host.lines %}<tr class="{{ line.tone }}"><td>{{ line.name }}</td><td><b>{{ line.verdict }}</b></td>
<td class="told"><p>{{ line.told }}</p>{% if line.remedy %}<p class="do">{{ line.remedy }}</p>{% endif %}</td></tr>
{% endfor %}</tbody></table></section>
{% endfor %}
"""
)
