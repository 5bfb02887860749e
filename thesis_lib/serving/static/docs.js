// The API's own description as a page: every operation, what it takes and what it answers.
"use strict";

const made = (tag, text, ...inside) => {
  const element = document.createElement(tag);
  if (text) element.textContent = text;
  element.append(...inside);
  return element;
};

function resolved(schema, parts, depth = 0) {
  if (!schema || depth > 6) return schema;
  if (schema.$ref) return resolved(parts[schema.$ref.split("/").at(-1)], parts, depth + 1);
  const { $defs, ...rest } = schema;
  const copy = Array.isArray(rest) ? [...rest] : { ...rest };
  if (copy.items) copy.items = resolved(copy.items, { ...parts, ...$defs }, depth + 1);
  if (copy.anyOf) copy.anyOf = copy.anyOf.map((each) => resolved(each, { ...parts, ...$defs }, depth + 1));
  if (copy.properties) {
    copy.properties = Object.fromEntries(Object.entries(copy.properties).map(
      ([name, value]) => [name, resolved(value, { ...parts, ...$defs }, depth + 1)]));
  }
  return copy;
}

const shown = (schema, parts) => made("pre", JSON.stringify(resolved(schema, parts), null, 1));

fetch("/openapi.json").then((answer) => answer.json()).then((api) => {
  const parts = api.components?.schemas ?? {};
  for (const [path, methods] of Object.entries(api.paths)) {
    for (const [method, operation] of Object.entries(methods)) {
      const about = made("details", "", made("summary", `${method.toUpperCase()} ${path} – ${operation.description ?? ""}`));
      for (const parameter of operation.parameters ?? []) {
        about.append(made("p", `${parameter.name} (${parameter.in})`), shown(parameter.schema, parts));
      }
      const body = operation.requestBody?.content?.["application/json"]?.schema;
      if (body) about.append(made("p", "Takes"), shown(body, parts));
      for (const [status, answer] of Object.entries(operation.responses ?? {})) {
        about.append(made("p", `${status}: ${answer.description}`));
        const schema = answer.content?.["application/json"]?.schema;
        if (schema && status === "200") about.append(shown(schema, parts));
      }
      document.getElementById("paths").append(about);
    }
  }
});
