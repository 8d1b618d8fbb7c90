"use strict";
const at = (id) => document.getElementById(id);

function cell(row, text, name = "", kind = "td") {
  const made = document.createElement(kind);
  made.textContent = text;
  made.className = name;
  row.append(made);
}

function table(id, heads, rows, none) {
  const made = at(id);
  made.replaceChildren();
  if (!rows.length) { made.createCaption().textContent = none; return; }
  const top = made.createTHead().insertRow();
  for (const [head, name] of heads) cell(top, head, name, "th");
  const body = made.createTBody();
  for (const row of rows) {
    const line = body.insertRow();
    for (const [text, name] of row) cell(line, text, name);
  }
}

async function ask(path) {
  const key = at("key").value.trim();
  const answer = await fetch(path, { headers: key ? { Authorization: `Bearer ${key}` } : {} });
  at("keyed").hidden = answer.status !== 401 && !key;
  const found = await answer.json();
  if (!answer.ok) throw new Error(found.detail || answer.statusText);
  return found;
}

const percent = (share) => `${(100 * share).toFixed(1)} %`;

function showServices(services, slos) {
  const of = (name, slo) => slos.find((each) => each.service === name && each.slo === slo);
  const rows = services.map((each) => {
    const fine = each.ready && !Object.keys(each.unwell).length;
    const why = each.detail || Object.entries(each.unwell).map(([check, detail]) => `${check}: ${detail}`).join("; ");
    const state = fine ? "well" : each.ready ? "unwell" : "not ready";
    const row = [[each.service, ""], [state, fine ? "good" : "bad"], [why, "soft"]];
    for (const slo of ["latency", "answers"]) {
      const found = of(each.service, slo);
      row.push([found.requests ? percent(found.budget_left) : "–", found.budget_left < 0 ? "number bad" : "number"]);
      row.push([found.burn["3600"].toFixed(1), found.burn["3600"] > 1 ? "number bad" : "number"]);
    }
    return row;
  });
  const heads = [["Service", ""], ["State", ""], ["Why", ""]];
  for (const slo of ["Latency", "Answers"]) heads.push([`${slo}: budget left`, "number"], ["burns (1 h)", "number"]);
  table("services", heads, rows, "nothing is planned");
}

function showIncidents(incidents) {
  at("incidents").replaceChildren(...incidents.map((each) => {
    const made = document.createElement("details"), head = document.createElement("summary");
    const list = document.createElement("ul"), when = document.createElement("span");
    head.textContent = `${each.severity}: ${each.service}, ${each.why} `;
    if (!each.ended) head.className = "bad";
    when.textContent = `${each.began} – ${each.ended || "now"}`;
    head.append(when);
    for (const moment of each.timeline) {
      const line = document.createElement("li");
      line.textContent = `${moment.time} ${moment.what}`;
      list.append(line);
    }
    made.append(head, list);
    made.open = !each.ended;
    return made;
  }));
  if (!incidents.length) at("incidents").textContent = "none yet";
}

async function show() {
  try {
    const [services, slos, alerts, incidents] =
      await Promise.all(["services", "slos", "alerts", "incidents"].map((name) => ask(`/${name}`)));
    const rows = alerts.alerts.map((each) =>
      [[each.severity, each.severity === "page" ? "bad" : ""], [each.service, ""], [each.what, ""], [each.since, "soft"]]);
    table("alerts", [["Severity", ""], ["Service", ""], ["What", ""], ["Since", ""]], rows, "none");
    showServices(services.services, slos.slos);
    showIncidents(incidents.incidents);
    at("state").textContent = `as of ${new Date().toISOString()}`;
  } catch (error) {
    at("state").textContent = String(error.message || error);
  }
}

at("key").addEventListener("change", show);
show();
setInterval(show, 5000);
