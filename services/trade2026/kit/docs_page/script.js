"use strict";
const byId = (id) => document.getElementById(id);
let api = { paths: {}, components: {} };

function make(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

// Text with `code` in it.
function rich(text) {
  return (text || "").split("`").map((part, index) => (index % 2 ? make("code", {}, part) : part));
}

// A path that a narrow page breaks after a slash, never within a word.
function breakable(path) {
  return path.split("/").flatMap((part, index) => (index ? ["/", make("wbr"), part] : [part]));
}

// What an enum allows, also behind a reference, an option or a list; empty for everything else.
function allowed(schema, depth = 0) {
  const found = resolve(schema);
  if (found.enum) return found.enum.map((value) => JSON.stringify(value));
  if (depth > 3) return [];
  return [...(found.anyOf || found.oneOf || []), ...(found.items ? [found.items] : [])].flatMap((each) => allowed(each, depth + 1));
}

function resolve(schema) {
  const name = schema && schema.$ref ? schema.$ref.split("/").pop() : null;
  return name ? (api.components.schemas || {})[name] || {} : schema || {};
}

function typeOf(schema) {
  if (!schema) return "any";
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.anyOf || schema.oneOf) return (schema.anyOf || schema.oneOf).map(typeOf).join(" | ");
  if (schema.enum) return schema.type || "string";
  if (schema.type === "array") return typeOf(schema.items) + "[]";
  return schema.type || "any";
}

const KNOWN = { symbol: "BTCUSDT", side: "buy", quantity: "0.001", price: "45000", scope: "account:main" };

function example(schema, name, depth) {
  const found = resolve(schema);
  if (name in KNOWN) return KNOWN[name];
  if (found.default !== undefined && found.default !== null) return found.default;
  if (found.enum) return found.enum[0];
  if (found.anyOf) return example(found.anyOf[0], name, depth);
  if (found.type === "array") return depth < 3 && found.items ? [example(found.items, "", depth + 1)] : [];
  if (found.properties && depth < 4) {
    const wanted = Object.keys(found.properties).filter(
      (key) => (found.required || []).includes(key) || key === "price");
    return Object.fromEntries(wanted.map((key) => [key, example(found.properties[key], key, depth + 1)]));
  }
  return { integer: 1, number: 1, boolean: false, object: {} }[found.type] ?? "";
}

function oneOf(schema) {
  const values = allowed(schema);
  return values.length ? "one of " + values.map((value) => "`" + value + "`").join(", ") : "";
}

function byDefault(schema) {
  return [undefined, null, ""].includes(schema.default) ? "" : "default `" + JSON.stringify(schema.default) + "`";
}

function table(schema) {
  const found = resolve(schema), required = new Set(found.required || []);
  if (!found.properties) return make("p", { class: "hint" }, ...rich([found.description || typeOf(found), oneOf(found)].filter(Boolean).join("; ")));
  const rows = Object.entries(found.properties).map(([name, each]) => make("tr", {},
    make("td", {}, make("code", {}, name), required.has(name) ? " *" : ""),
    make("td", {}, make("code", {}, typeOf(each))),
    make("td", {}, ...rich([each.description, oneOf(each), byDefault(each)].filter(Boolean).join("; ")))));
  return make("div", {}, make("p", { class: "hint" }, ...rich(found.description)), make("table", {}, make("tbody", {}, ...rows)));
}

async function send(method, path, inputs, body, output, button) {
  const query = new URLSearchParams();
  let url = path;
  for (const [parameter, input] of inputs) {
    if (parameter.in === "path") url = url.replace(`{${parameter.name}}`, encodeURIComponent(input.value));
    else if (input.value) query.append(parameter.name, input.value);
  }
  const asked = query.toString();
  const headers = {}, key = byId("key").value;
  if (key) headers.Authorization = "Bearer " + key;
  if (body) headers["Content-Type"] = "application/json";
  button.disabled = true;
  const begin = performance.now();
  try {
    const answer = await fetch(asked ? url + "?" + asked : url, { method, headers, body: body ? body.value : undefined });
    const text = await answer.text(), took = performance.now() - begin;
    let shown = text;
    try { shown = JSON.stringify(JSON.parse(text), null, 2); } catch { /* not JSON */ }
    output.replaceChildren(
      make("p", { class: answer.ok ? "good" : "bad" }, `${answer.status} ${answer.statusText} · ${took.toFixed(1)} ms`),
      make("pre", { tabindex: "0" }, shown || "(no body)"));
  } catch (error) {
    output.replaceChildren(make("p", { class: "bad" }, `No answer: ${error.message}`));
  } finally {
    button.disabled = false;
  }
}

function form(method, path, operation) {
  const inputs = (operation.parameters || []).map((parameter) => [parameter, make("input", { autocomplete: "off" })]);
  const content = ((operation.requestBody || {}).content || {})["application/json"];
  const body = content ? make("textarea", { spellcheck: "false", "aria-label": "Body" }) : null;
  if (body) body.value = JSON.stringify(example(content.schema, "", 0), null, 2);
  const fields = inputs.map(([parameter, input]) => make("label", {}, parameter.name, input, ...rich(parameter.description)));
  const output = make("div", { "aria-live": "polite" }), button = make("button", { type: "button" }, "Send");
  button.addEventListener("click", () => send(method.toUpperCase(), path, inputs, body, output, button));
  return make("div", { class: "fields-and-answer" },
    make("div", { class: "fields" }, ...fields), body, make("p", {}, button), output);
}

function endpoint(method, path, operation) {
  const socket = (operation.tags || []).includes("websocket");
  const shown = socket ? "ws" : method;
  const answer = ((((operation.responses || {})["200"] || {}).content || {})["application/json"] || {}).schema;
  const request = (((operation.requestBody || {}).content || {})["application/json"] || {}).schema;
  const details = make("details", {}, make("summary", {},
    make("span", { class: `method ${shown}` }, shown.toUpperCase()), make("code", {}, ...breakable(path)),
    make("span", { class: "summary" }, ...rich(operation.summary))));
  details.dataset.text = `${shown} ${path} ${operation.summary || ""}`.toLowerCase();
  details.addEventListener("toggle", () => {
    if (!details.open || details.children.length > 1) return;
    const role = operation["x-role"];
    details.append(make("div", { class: "inside" },
      make("p", { class: "hint" }, role ? `Needs the role ${role}.` : "Everyone may ask."),
      socket ? make("p", {}, "Connect with a WebSocket client; the first answer comes after the handshake.") : form(method, path, operation),
      request ? make("div", {}, make("h3", {}, "Body"), table(request)) : null,
      answer ? make("div", {}, make("h3", {}, "Answer"), table(answer)) : null));
  });
  return details;
}

function filter() {
  const wanted = byId("filter").value.trim().toLowerCase();
  for (const each of document.querySelectorAll("details[data-text]")) each.hidden = !each.dataset.text.includes(wanted);
  for (const group of document.querySelectorAll("section.group")) group.hidden = !group.querySelector("details:not([hidden])");
}

function show() {
  document.title = byId("title").textContent = api.info.title;
  byId("about").textContent = `Version ${api.info.version}. Errors are RFC 9457 problem documents with a stable code.`;
  const groups = new Map();
  for (const [path, operations] of Object.entries(api.paths)) {
    for (const [method, operation] of Object.entries(operations)) {
      const own = (operation.tags || [])[0] || "other", probe = operation["x-role"] === undefined;
      const name = own === "websocket" ? "WebSocket" : probe ? "The service itself" : own;
      groups.set(name, [...(groups.get(name) || []), endpoint(method, path, operation)]);
    }
  }
  const last = (name) => (name === "The service itself" ? 2 : name === "WebSocket" ? 1 : 0);
  const ordered = [...groups].sort(([a], [b]) => last(a) - last(b));
  byId("endpoints").replaceChildren(...ordered.map(([name, list]) => make("section", { class: "group" }, make("h2", {}, name), ...list)));
  const schemas = Object.entries(api.components.schemas || {}).map(([name, schema]) => {
    const details = make("details", {}, make("summary", {}, make("code", {}, name)), make("div", { class: "inside" }, table(schema)));
    details.dataset.text = name.toLowerCase();
    return details;
  });
  byId("schemas").replaceChildren(...(schemas.length ? [make("h2", {}, "Schemas"), ...schemas] : []));
}

byId("tools").addEventListener("submit", (event) => event.preventDefault());
byId("filter").addEventListener("input", filter);
fetch("/openapi.json").then((answer) => answer.json()).then((found) => { api = found; show(); }).catch((error) => {
  byId("endpoints").replaceChildren(make("p", { class: "bad" }, `The document could not be read: ${error.message}`));
});
