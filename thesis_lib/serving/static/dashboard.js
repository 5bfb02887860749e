// The dashboard. Everything it draws comes from the service: the live policy in the real community (/simulate), and
// what other controllers did in the same hours according to the files their runs left (/comparison).
"use strict";

const EVERY = 5000; // ms between two looks
const PATIENCE = 30000; // ms for an answer; the service gives up before
const HOURS = 6; // simulated at each look
const FIRST = 48; // at the first one, so that there is something to see
const SHOWN = 168; // hours kept on the page: the newest one and those within a week before it
const START = Number(new URLSearchParams(location.search).get("start") ?? 576); // the first test week begins there
// Cooperative MADDPG and MARLISA have the colours of the thesis' figures (analysis/page.py).
const BLUE = "#0072b2", ORANGE = "#d55e00", GREEN = "#00795c", PURPLE = "#8e4585", GREY = "#595959", YELLOW = "#b08500";

const TEXT = {
  en: {
    title: "Energy flexibility of the community: live policy",
    language: "Language", pause: "Pause", go: "Go on", restart: "Start the episode again", token: "Token of the service",
    send: "Send", chosen: "Homes (up to five)", summary: "Hours shown",
    comparisonControlChart: "Demand without control and with Cooperative MADDPG; the area between is the difference",
    threeWayComparisonChart: "Demand of the three controllers",
    multiAgentBuildingsChart: "Energy bought by the chosen homes under each controller",
    allBuildingsActionsChart: "All homes in the last hour: sun, battery, car, appliance and their actions",
    flexibilityChart: "Demand, price and state of charge",
    priceResponseChart: "Demand against price: what is moved to cheap hours",
    live: (variant) => `Cooperative MADDPG (${text[variant] ?? variant}, live)`, announce: "announced", broadcast: "broadcast",
    none: "local", no_control: "No control", comparator: "Comparison",
    charge_on_arrival: "No control (cars charge on arrival)", marlisa: "MARLISA", mpc_forecast: "MPC, forecast (no MARLISA run yet)",
    tuned_rule: "Tuned rule (no MARLISA run yet)", rule: "Spread rule (no MARLISA run yet)",
    business_as_usual: "Business as usual (no MARLISA run yet)", cooperative_maddpg: "Cooperative MADDPG",
    demand: "Demand (kW)", price: "Price (EUR/kWh)", soc_short: "SOC (%)", price_short: "EUR/kWh", bought: "Energy bought (kWh)",
    battery_soc: "Batteries, mean (%)", car_soc: "Cars, mean (%)", pv: "Sun (kWh)", battery: "Battery (kWh)", car: "Car (kWh)",
    appliance: "Appliance (kWh)", battery_action: "Battery action", car_action: "Car action",
    appliance_action: "Appliance action", energy: "Energy (kWh)", action: "Action (share of power)", home: "Home",
    controller: "Controller", peak: "Highest demand (kW)", imported: "Import (kWh)", cost: "Cost (EUR)",
    waiting: "Waiting for the service's first answer.", ok: "Live.", down: "The service does not answer; trying again every 5 s.",
    paused: "Paused.",
    refused: (why) => `The service says: ${why}`, last: (time, row) => `Last answer ${time}, simulated hour ${row}.`,
    shared: "Another page moves the same episode on: hours that only it was given are missing here.",
    alone: (why) => `Only the live policy is shown: ${why}.`,
    official: "official", offline: "offline",
    about: (a) => `Data: ${text[a.edition]} edition (${a.dataset}). Policy ${a.model_version}.`,
    cold: () => `This page's live episode begins with the hour ${when(start)}, cold: batteries and cars at the data set's `
      + "initial charge.",
    year: "The other controllers' hours are from their continuous year in CityLearn.",
    late: "What the policy first buys to catch up with them counts against it.",
  },
  es: {
    title: "Flexibilidad energética de la comunidad: política en vivo",
    language: "Idioma", pause: "Pausar", go: "Seguir", restart: "Empezar de nuevo", token: "Token del servicio",
    send: "Enviar", chosen: "Viviendas (hasta cinco)", summary: "Horas mostradas",
    comparisonControlChart: "Demanda sin control y con MADDPG cooperativo; el área entre ambas es la diferencia",
    threeWayComparisonChart: "Demanda de los tres controladores",
    multiAgentBuildingsChart: "Energía comprada por las viviendas elegidas con cada controlador",
    allBuildingsActionsChart: "Todas las viviendas en la última hora: sol, batería, coche, electrodoméstico y sus acciones",
    flexibilityChart: "Demanda, precio y estado de carga",
    priceResponseChart: "Demanda frente al precio: lo que se traslada a horas baratas",
    live: (variant) => `MADDPG cooperativo (${text[variant] ?? variant}, en vivo)`, announce: "anuncio", broadcast: "difusión",
    none: "local", no_control: "Sin control", comparator: "Comparación",
    charge_on_arrival: "Sin control (carga al llegar)", marlisa: "MARLISA", mpc_forecast: "MPC con pronóstico (aún sin MARLISA)",
    tuned_rule: "Regla ajustada (aún sin MARLISA)", rule: "Regla de reparto (aún sin MARLISA)",
    business_as_usual: "Práctica habitual (aún sin MARLISA)", cooperative_maddpg: "MADDPG cooperativo",
    demand: "Demanda (kW)", price: "Precio (EUR/kWh)", soc_short: "SOC (%)", price_short: "EUR/kWh", bought: "Energía comprada (kWh)",
    battery_soc: "Baterías, media (%)", car_soc: "Coches, media (%)", pv: "Sol (kWh)", battery: "Batería (kWh)", car: "Coche (kWh)",
    appliance: "Electrodoméstico (kWh)", battery_action: "Acción de la batería", car_action: "Acción del coche",
    appliance_action: "Acción del electrodoméstico", energy: "Energía (kWh)", action: "Acción (parte de la potencia)",
    home: "Vivienda",
    controller: "Controlador", peak: "Demanda máxima (kW)", imported: "Importación (kWh)", cost: "Coste (EUR)",
    waiting: "A la espera de la primera respuesta del servicio.", ok: "En vivo.", down: "El servicio no responde; nuevo intento cada 5 s.",
    paused: "En pausa.",
    refused: (why) => `El servicio dice: ${why}`, last: (time, row) => `Última respuesta ${time}, hora simulada ${row}.`,
    shared: "Otra página avanza el mismo episodio: aquí faltan las horas que solo recibió ella.",
    alone: (why) => `Solo se muestra la política en vivo: ${why}.`,
    official: "oficial", offline: "sin conexión",
    about: (a) => `Datos: edición ${text[a.edition]} (${a.dataset}). Política ${a.model_version}.`,
    cold: () => `El episodio en vivo de esta página empieza en la hora del ${when(start)}, en frío: baterías y coches con la `
      + "carga inicial del conjunto de datos.",
    year: "Las horas de los demás controladores son de su año continuo en CityLearn.",
    late: "Lo que la política compra al principio para alcanzarlos cuenta en su contra.",
  },
};

// A line's entry shows its dashes, for whoever prints without colour.
const LEGENDS = { line: { boxWidth: 34, boxHeight: 0 }, other: { usePointStyle: true, boxHeight: 9 } };

const byId = (id) => document.getElementById(id);
const sum = (values) => values.reduce((total, value) => total + value, 0);
const mean = (values) => (values.length ? sum(values) / values.length : NaN);
const remembered = (key) => { try { return localStorage.getItem(key); } catch { return null; } };
const remember = (key, value) => { try { localStorage.setItem(key, value); } catch { /* private window: not kept */ } };

let language = [remembered("language"), navigator.language.slice(0, 2)].find((name) => Object.hasOwn(TEXT, name)) ?? "en";
let text = TEXT[language];
let hours = [], about = null, runs = [], last = null, state = "waiting", reason = "", paused = false;
let alone = ""; // why there is nothing to compare with
let start = null, begun = false; // the row in which this page began the episode; whether it is to go on with that one
let shared = false; // another page moves the service's one episode as well
let looks = 0, looking = false; // only the newest look counts: what an older one is answered is dropped
let chosen = ["Building_1", "Building_4", "Building_5", "Building_10", "Building_15"];
let token = null, timer = null;
const charts = {};

async function ask(path, body) {
  const headers = { "content-type": "application/json" };
  if (token) headers.authorization = `Bearer ${token}`;
  const options = body === undefined ? {} : { method: "POST", body: JSON.stringify(body) };
  const answer = await fetch(path, { ...options, headers, signal: AbortSignal.timeout(PATIENCE) });
  const content = await answer.json().catch(() => ({ detail: answer.statusText }));
  if (!answer.ok) throw Object.assign(new Error(String(content.detail)), { status: answer.status });
  return content;
}

async function begin(current) {
  const { row } = await current("/simulate/reset", { start: START });
  const episode = await current("/simulate/step", { hours: FIRST });
  [hours, shared, start, begun] = [[], false, row, true];
  keep(episode);
}

function keep(episode) {
  about = episode;
  const [first] = episode.hours;
  if (!first) return;
  // Another page may have stepped on, which leaves a gap, or begun again: what comes before the new hours stays.
  shared ||= hours.length > 0 && first.row !== hours.at(-1).row + 1;
  hours = [...hours.filter((hour) => hour.row < first.row), ...episode.hours];
  hours = hours.filter((hour) => hour.row > hours.at(-1).row - SHOWN);
}

async function look() {
  clearTimeout(timer);
  const mine = ++looks;
  looking = true;
  const current = (path, body) => ask(path, body).finally(() => { if (mine !== looks) throw new Error("a newer look has begun"); });
  try {
    if (!begun) await begin(current);
    else {
      try {
        keep(await current("/simulate/step", { hours: HOURS }));
      } catch (error) {
        if (error.status !== 422) throw error; // the service began anew and has no episode yet
        await begin(current);
      }
    }
    try {
      const [from, to] = [hours[0].row, hours.at(-1).row + 1];
      runs = (await current(`/comparison?start=${from}&hours=${to - from}`)).runs.map((run) => sameHours(run, from));
      alone = "";
    } catch (error) {
      if (error.status !== 503) throw error;
      [runs, alone] = [[], error.message];
    }
    state = "ok";
    last = new Date();
    byId("access").hidden = true;
    draw();
  } catch (error) {
    if (mine !== looks) return;
    state = error.status ? "refused" : "down";
    reason = error.message;
    if (error.status === 401) byId("access").hidden = false;
  }
  looking = false;
  say();
  if (about?.ended) begun = false;
  if (!paused) timer = setTimeout(look, EVERY);
}

// A run's values of the hours on the page, which may have gaps.
function sameHours(run, from) {
  const shown = (values) => hours.map((hour) => values[hour.row - from]);
  const homes = run.homes && Object.fromEntries(Object.entries(run.homes).map(([home, values]) => [home, shown(values)]));
  return { ...run, net: shown(run.net), homes };
}

function say() {
  const ok = state === "ok";
  const said = [state === "refused" ? text.refused(reason) : text[state], paused && text.paused, ok && shared && text.shared,
    ok && alone && text.alone(alone)].filter(Boolean).join(" ");
  // Read aloud whenever it is written, so only when it is another; the time of each answer stands beside it.
  if (byId("state").textContent !== said) byId("state").textContent = said;
  byId("answered").textContent = last ? text.last(last.toLocaleTimeString(language), hours.at(-1).row) : "";
  byId("status").classList.toggle("down", !ok && state !== "waiting");
  if (!about) return;
  byId("about").textContent = text.about(about);
  // The others' year begins with row 0, as cold as this episode there.
  byId("footing").textContent = [text.cold(), runs.length && text.year, runs.length && start && text.late].filter(Boolean).join(" ");
}

const date = (row, more) => new Date(Date.UTC(2024, 7, 1) + row * 3.6e6).toLocaleString(language,
  { timeZone: "UTC", day: "numeric", month: "short", ...more });
const when = (row) => date(row, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });

// The controllers on the page: the live one, and those of the files. Each with the district's and the homes' net, kWh.
function controllers() {
  const names = about?.homes ?? [];
  const live = { role: "maddpg", name: text.live(about?.variant), colour: BLUE, dash: [], net: hours.map((hour) => sum(hour.net)),
    homes: Object.fromEntries(names.map((home, i) => [home, hours.map((hour) => hour.net[i])])) };
  const styles = { no_control: [GREY, [6, 4]], comparator: [ORANGE, [2, 3]] };
  const others = runs.filter((run) => styles[run.role]).map((run) => ({
    role: run.role, name: text[run.controller] ?? run.controller, colour: styles[run.role][0], dash: styles[run.role][1],
    net: run.net,
    // Loads and sun are the same for all: those of the live hours, plus what the run's devices drew.
    homes: run.homes && Object.fromEntries(names.map((home, i) => [home,
      hours.map((hour, t) => hour.load[i] - hour.pv[i] + (run.homes[home]?.[t] ?? 0))])),
  }));
  return [...others, live];
}

function bill(homes) {
  return homes ? sum(Object.values(homes).map((net) => sum(net.map((kwh, t) => Math.max(kwh, 0) * hours[t].price)))) : NaN;
}

function chart(id, type, data, options) {
  const common = { responsive: true, maintainAspectRatio: false, animation: false, locale: language,
    interaction: { mode: type === "scatter" ? "nearest" : "index", intersect: false },
    ...options, plugins: { legend: { position: "bottom", labels: LEGENDS[type] ?? LEGENDS.other }, ...options.plugins } };
  if (charts[id]) {
    charts[id].data = data;
    charts[id].options = common;
    charts[id].update("none");
  } else {
    charts[id] = new Chart(byId(id), { type, data, options: common });
  }
  const shown = data.datasets.map((set) => set.label).join(", ");
  byId(id).setAttribute("aria-label", `${text[id]}: ${shown}`);
}

const axis = (title, more) => ({ title: { display: true, text: title }, ...more });
// Zero in the middle, so that two axes have theirs at one height.
const middle = { afterDataLimits: (scale) => { scale.max = Math.max(scale.max, -scale.min); scale.min = -scale.max; } };
const line = (each, more) => ({ label: each.name, data: each.net, borderColor: each.colour, borderDash: each.dash,
  backgroundColor: each.colour, pointRadius: 0, pointStyle: "line", borderWidth: 2, ...more });

// Lines over the hours on the page: a tick at each midnight, nothing drawn where hours are missing.
function lines(id, datasets, scales) {
  const labels = hours.map((hour) => hour.row);
  const gap = (context) => (labels[context.p1DataIndex] - labels[context.p0DataIndex] > 1 ? "transparent" : undefined);
  const x = { type: "linear", min: labels[0], max: labels.at(-1), ticks: { stepSize: 24, includeBounds: false, maxRotation: 0,
    autoSkipPadding: 12, callback: (row) => date(row) } };
  chart(id, "line", { labels, datasets: datasets.map((set) => ({ ...set, segment: { borderColor: gap, backgroundColor: gap } })) },
    { scales: { x, ...scales }, plugins: { tooltip: { callbacks: { title: ([item]) => when(item.parsed.x) } } } });
}

function draw() {
  const all = controllers(), live = all.at(-1), nothing = all.find((each) => each.role === "no_control");
  const fill = { target: "-1", above: "rgba(213,94,0,0.30)", below: "rgba(0,114,178,0.30)" };
  lines("comparisonControlChart", nothing ? [line(nothing), line(live, { fill })] : [line(live)], { y: axis(text.demand) });
  lines("threeWayComparisonChart", all.map((each) => line(each)), { y: axis(text.demand) });

  const short = (home) => home.replace("Building_", "");
  chart("multiAgentBuildingsChart", "bar", { labels: chosen.map(short), datasets: all.filter((each) => each.homes).map((each) => ({
    label: each.name, backgroundColor: each.colour, pointStyle: "rect",
    data: chosen.map((home) => sum((each.homes[home] ?? []).map((kwh) => Math.max(kwh, 0)))) })) },
  { scales: { x: axis(text.home), y: axis(text.bought) } });

  // A home's actions are the battery, then its chargers, then its appliance.
  const now = hours.at(-1), homes = about.homes, points = { battery: [], car: [], appliance: [] };
  const used = { car: homes.map(() => 0), appliance: homes.map(() => 0) };
  let appliances = 0;
  homes.forEach((home, i) => now.actions[i].forEach((y, slot) => {
    const cars = about.chargers.flatMap((charger, c) => (charger.home === home ? [c] : []));
    const kind = slot === 0 ? "battery" : slot <= cars.length ? "car" : "appliance";
    points[kind].push({ x: short(home), y });
    if (kind === "car") used.car[i] += now.chargers[cars[slot - 1]];
    if (kind === "appliance") used.appliance[i] += now.appliances[appliances++];
  }));
  const bar = (label, data, colour) => ({ type: "bar", label, data, backgroundColor: colour, stack: "energy", yAxisID: "y",
    pointStyle: "rect", order: 1 });
  const point = (label, data, colour, style) => ({ type: "line", label, data, borderColor: "#fff", backgroundColor: colour,
    borderWidth: 1, showLine: false, pointStyle: style, pointRadius: 6, yAxisID: "action", order: 0,
    clip: false });
  chart("allBuildingsActionsChart", "bar", { labels: homes.map(short), datasets: [
    point(text.battery_action, points.battery, GREEN, "rectRot"), point(text.car_action, points.car, PURPLE, "triangle"),
    point(text.appliance_action, points.appliance, ORANGE, "circle"),
    bar(text.pv, now.pv.map((kwh) => -kwh), YELLOW), bar(text.battery, now.battery, GREEN), bar(text.car, used.car, PURPLE),
    bar(text.appliance, used.appliance, ORANGE),
  ] }, { scales: { x: axis(text.home, { stacked: true, ticks: { autoSkip: true, maxRotation: 0 } }),
    y: axis(text.energy, { stacked: true, ...middle }),
    action: axis(text.action, { position: "right", min: -1, max: 1, grid: { drawOnChartArea: false } }) } });

  // Three panels over one axis of time.
  const panel = (title, stackWeight, more) => axis(title, { stack: "panels", stackWeight, offset: true, ...more });
  const share = (values) => 100 * mean(values);
  lines("flexibilityChart", [
    line(live, { yAxisID: "y" }),
    line({ name: text.price, colour: ORANGE, dash: [2, 3], net: hours.map((hour) => hour.price) }, { yAxisID: "price", stepped: true }),
    line({ name: text.battery_soc, colour: GREEN, dash: [8, 3], net: hours.map((hour) => share(hour.battery_soc)) }, { yAxisID: "soc" }),
    line({ name: text.car_soc, colour: PURPLE, dash: [8, 3, 2, 3], net: hours.map((hour) => share(hour.car_soc)) }, { yAxisID: "soc" }),
  ], { soc: panel(text.soc_short, 3, { min: 0, max: 100 }), price: panel(text.price_short, 3), y: panel(text.demand, 4) });

  chart("priceResponseChart", "scatter", { datasets: all.filter((each) => each.role !== "comparator").map((each) => ({
    label: each.name, backgroundColor: each.colour, borderColor: each.colour, pointStyle: each === live ? "circle" : "crossRot",
    data: each.net.map((kwh, t) => ({ x: hours[t].price, y: kwh })) })) },
  { scales: { x: axis(text.price), y: axis(text.demand) } });

  const number = (value) => (Number.isFinite(value) ? value.toLocaleString(language, { minimumFractionDigits: 1, maximumFractionDigits: 1 }) : "–");
  const row = (cells, tag) => {
    const made = document.createElement("tr");
    cells.forEach((cell, i) => {
      const scope = tag === "th" ? "col" : i ? null : "row";
      made.append(Object.assign(document.createElement(scope ? "th" : "td"), { textContent: cell }, scope && { scope }));
    });
    return made;
  };
  const table = byId("summary");
  table.tHead.replaceChildren(row([text.controller, text.peak, text.imported, text.cost], "th"));
  table.tBodies[0].replaceChildren(...all.map((each) => row([each.name, number(Math.max(...each.net)),
    number(sum(each.net.map((kwh) => Math.max(kwh, 0)))), number(bill(each.homes))], "td")));
  if (!byId("homes").querySelector("input")) choices();
}

function choices() {
  for (const home of about.homes) {
    const box = Object.assign(document.createElement("input"), { type: "checkbox", value: home, checked: chosen.includes(home) });
    const label = document.createElement("label");
    label.append(box, ` ${home.replace("Building_", "")}`);
    byId("homes").append(label);
    box.addEventListener("change", () => {
      const wanted = [...byId("homes").querySelectorAll("input:checked")].map((each) => each.value);
      if (wanted.length > 5 || !wanted.length) box.checked = !box.checked;
      else { chosen = wanted; draw(); }
    });
  }
}

function speak(name) {
  language = name;
  text = TEXT[name];
  remember("language", name);
  document.documentElement.lang = name;
  document.title = text.title;
  for (const each of document.querySelectorAll("[data-text]")) each.textContent = text[each.dataset.text];
  for (const each of document.querySelectorAll("[data-label]")) each.setAttribute("aria-label", text[each.dataset.label]);
  for (const each of document.querySelectorAll("[data-language]")) each.setAttribute("aria-pressed", each.dataset.language === name);
  byId("pause").textContent = paused ? text.go : text.pause;
  if (about) draw();
  say();
}

for (const each of document.querySelectorAll("[data-language]")) each.addEventListener("click", () => speak(each.dataset.language));
byId("pause").addEventListener("click", () => {
  paused = !paused;
  byId("pause").textContent = paused ? text.go : text.pause;
  if (paused) clearTimeout(timer);
  else if (!looking) look();
  say();
});
byId("restart").addEventListener("click", () => { begun = false; look(); });
byId("access").addEventListener("submit", (event) => {
  event.preventDefault();
  token = byId("token").value; // in this page's memory only
  look();
});
Chart.defaults.font.family = "system-ui, sans-serif";
Chart.defaults.color = "#1b1b1b";
speak(language);
look();
