"""Every word that a figure, a table or a caption prints, in Spanish and in English, behind one switch.

``labels.use("es")`` once, then ``labels.t("axis.hour")``. Keys are grouped by a prefix: ``kpi.``, ``controller.``,
``variant.``, ``gap.``, ``split.``, ``engine.``, ``axis.``, ``legend.``, ``table.``, ``family.`` and ``caption.``;
those of the claims, the README and the settings' meanings stand in ``words``, those of the data's figures in
``exploration``, those of notebook 05 in ``serving/latency.py``. Numbers follow the language too (``number``): Spanish
writes a decimal comma and a thin space between thousands, English a point and a comma.
"""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from matplotlib.ticker import Formatter

from thesis_lib.analysis import words

LANGUAGES = ("es", "en")
FIRST_DAY = dt.date(2024, 8, 1)  # row 0 of the data
SPACE = "\u202f"  # narrow and unbreakable, between a number and its unit
_language = "en"

# key: (Spanish, English)
TEXT: dict[str, tuple[str, str]] = {
    # what is measured
    "kpi.cost": ("Coste", "Cost"),
    "kpi.emissions": ("Emisiones", "Emissions"),
    "kpi.import": ("Importación", "Import"),
    "kpi.ramping": ("Rampas", "Ramping"),
    "kpi.daily_peak": ("Pico diario", "Daily peak"),
    "kpi.load_factor_penalty": ("1 − factor de carga", "1 − load factor"),
    "kpi.load_factor_penalty_median": ("1 − factor de carga (mediana)", "1 − load factor (median)"),
    "kpi.annual_peak": ("Pico anual", "Annual peak"),
    "kpi.self_consumption": ("Autoconsumo", "Self-consumption"),
    "kpi.battery_cycles": ("Ciclos de batería", "Battery cycles"),
    "kpi.ev_departures_met": ("Salidas atendidas", "Departures met"),
    "kpi.ev_departures_met_causal": ("Salidas atendidas (causal)", "Departures met (causal)"),
    "kpi.appliance_cycles_served": ("Ciclos servidos", "Cycles served"),
    "kpi.ev_departures_count": ("Salidas", "Departures"),
    "kpi.ev_departures_met_count": ("Salidas atendidas (n.º)", "Departures met (count)"),
    "kpi.ev_departures_feasible_count": ("Salidas viables", "Feasible departures"),
    "kpi.ev_departures_met_causal_count": (
        "Salidas atendidas (causal, n.º)",
        "Departures met (causal, count)",
    ),
    "kpi.ev_departures_feasible_causal_count": ("Salidas viables (causal)", "Feasible departures (causal)"),
    "kpi.appliance_cycles_served_count": ("Ciclos servidos (n.º)", "Cycles served (count)"),
    "kpi.appliance_cycles_due_count": ("Ciclos previstos", "Cycles due"),
    "kpi.composite_vs_bau": ("Compuesto", "Composite"),
    # who decides
    "controller.charge_on_arrival": ("Carga al llegar", "Charge on arrival"),
    "controller.business_as_usual": ("Práctica habitual (BAU)", "Business as usual (BAU)"),
    "controller.rule": ("Regla de reparto", "Spread rule"),
    "controller.tuned_rule": ("Regla ajustada", "Tuned rule"),
    "controller.habits": ("Hábitos, sin entrenar", "Habits, untrained"),
    "controller.citylearn_rbc_basic": ("RBC básico de CityLearn", "CityLearn's basic RBC"),
    "controller.citylearn_rbc_smart": ("RBC inteligente de CityLearn", "CityLearn's smart RBC"),
    "controller.citylearn_rbc_community": ("RBC comunitario de CityLearn", "CityLearn's community RBC"),
    "controller.citylearn_rbc_hours": ("RBC horario de CityLearn", "CityLearn's hourly RBC"),
    "controller.random": ("Aleatorio", "Random"),
    "controller.independent_td3": ("TD3 independiente", "Independent TD3"),
    "controller.independent_sac": ("SAC independiente", "Independent SAC"),
    "controller.marlisa": ("MARLISA", "MARLISA"),
    "controller.mpc_forecast": ("MPC con pronóstico", "MPC, forecast"),
    "controller.mpc_perfect": ("MPC perfecto", "MPC, perfect"),
    "controller.optimum": ("Óptimo", "Optimum"),
    "controller.maddpg": ("MADDPG", "MADDPG"),
    "controller.cooperative_maddpg": ("MADDPG cooperativo", "Cooperative MADDPG"),
    "variant.announce": ("anuncio", "announced"),
    "variant.broadcast": ("difusión", "broadcast"),
    "variant.none": ("local", "local"),
    "variant.full_charge": ("carga completa", "full charge"),
    "variant.bound": ("cota", "bound"),
    "variant.replay": ("reproducido", "replayed"),
    "variant.attention": ("atención", "attention"),
    "variant.mean_field": ("campo medio", "mean field"),
    # variants of the ablations
    "variant.headline": ("variante de la tesis", "the thesis' own"),
    "variant.broadcast_late": ("difusión, 1{space}h tarde", "broadcast, 1{space}h late"),
    "variant.shared_actors": ("actores compartidos", "shared actors"),
    "variant.horizon_0": ("K = 0, lo demás igual", "K = 0, all else equal"),
    "variant.horizon_1": ("K = 1", "K = 1"),
    "variant.horizon_6": ("K = 6", "K = 6"),
    "variant.horizon_24": ("K = 24", "K = 24"),
    "variant.no_tail": ("sin valor final", "no terminal value"),
    "variant.individual_reward": ("recompensa individual", "individual reward"),
    "variant.critics_per_agent": ("un crítico por vivienda", "one critic per home"),
    "variant.adam": ("Adam", "Adam"),
    "variant.no_habits": ("sin hábitos", "no habits"),
    "variant.no_augment": ("sin días recombinados", "no augmented days"),
    "variant.no_leak": ("sin gradiente por la salvaguarda", "no gradient through the guard"),
    "variant.constant_rates": ("tasas de aprendizaje constantes", "constant learning rates"),
    "variant.no_clip": ("gradientes sin recortar", "no clipping of gradients"),
    "variant.no_offset": ("recompensa sin constante", "no constant in the reward"),
    "variant.last_policy": ("sin promediar la política", "no average of policies"),
    "variant.horizon_0_ou": ("K = 0, ruido OU", "K = 0, OU noise"),
    "variant.horizon_0_critics": ("K = 0, un crítico por vivienda", "K = 0, one critic per home"),
    "variant.maddpg": ("MADDPG, sus propios ajustes", "MADDPG, its own settings"),
    "variant.maddpg_no_habits": ("sin hábitos", "no habits"),
    "variant.maddpg_no_warmup": ("sin calentar el crítico", "no warm-up of the critic"),
    "variant.maddpg_one_step": ("retornos de un paso", "one-step returns"),
    "variant.maddpg_long_discount": ("descuento 0,95", "discount 0.95"),
    "variant.maddpg_fast_actors": ("actores más rápidos", "faster actors"),
    "variant.maddpg_short_memory": ("memoria corta", "short memory"),
    "variant.maddpg_few_copies": ("16 copias", "16 copies"),
    "variant.maddpg_team": ("recompensa de equipo", "team reward"),
    "variant.maddpg_no_offset": ("recompensa sin constante", "no constant in the reward"),
    "variant.guard_off": ("sin salvaguarda", "no guard"),
    "variant.v2g_off": ("sin V2G", "no V2G"),
    "variant.bill_only": ("solo factura", "bill only"),
    "variant.bill_first": ("factura : red = 3 : 1", "bill : grid = 3 : 1"),
    "variant.grid_first": ("factura : red = 1 : 3", "bill : grid = 1 : 3"),
    "variant.grid_only": ("solo red", "grid only"),
    "variant.cost_only": ("solo coste", "cost only"),
    "variant.emissions_only": ("solo emisiones", "emissions only"),
    "variant.peak_only": ("solo pico", "peak only"),
    "variant.trained_on_5": ("entrenado en 5 viviendas", "trained on 5 homes"),
    "variant.trained_on_10": ("entrenado en 10 viviendas", "trained on 10 homes"),
    "variant.noise_10": ("ruido 0,1 σ", "noise 0.1 σ"),
    "variant.noise_30": ("ruido 0,3 σ", "noise 0.3 σ"),
    "variant.missing_10": ("10{space}% de lecturas perdidas", "10% of readings lost"),
    "variant.missing_30": ("30{space}% de lecturas perdidas", "30% of readings lost"),
    "variant.full_noise_10": ("carga completa, ruido 0,1 σ", "full charge, noise 0.1 σ"),
    "variant.full_noise_30": ("carga completa, ruido 0,3 σ", "full charge, noise 0.3 σ"),
    "variant.full_missing_10": ("carga completa, 10{space}% perdidas", "full charge, 10% lost"),
    "variant.full_missing_30": ("carga completa, 30{space}% perdidas", "full charge, 30% lost"),
    "variant.undisturbed": ("sin contratiempos", "undisturbed"),
    "variant.dropped_1": ("una vivienda de baja", "one home out"),
    "variant.dropped_3": ("3 viviendas de baja", "3 homes out"),
    "variant.dropped_6": ("6 viviendas de baja", "6 homes out"),
    "variant.tariff_3": ("tarifa 3{space}h más tarde", "tariff 3{space}h later"),
    "variant.tariff_6": ("tarifa 6{space}h más tarde", "tariff 6{space}h later"),
    "variant.tariff_12": ("tarifa 12{space}h más tarde", "tariff 12{space}h later"),
    "variant.scale_5": ("5 viviendas", "5 homes"),
    "variant.scale_10": ("10 viviendas", "10 homes"),
    "variant.scale_100": ("100 viviendas", "100 homes"),
    "variant.scale_1000": ("1000 viviendas", "1,000 homes"),
    # families of ablations
    "family.coordination": ("Coordinación", "Coordination"),
    "family.latency": ("Difusión con retraso", "Late broadcast"),
    "family.horizon": ("Horizonte K", "Horizon K"),
    "family.learning": ("Recompensa y críticos", "Reward and critics"),
    "family.training": ("Partes del entrenamiento", "Parts of training"),
    "family.start": ("Punto de partida", "Where actors start"),
    "family.maddpg": ("Variantes de MADDPG", "Forms of MADDPG"),
    "family.replay": ("Partes de MADDPG", "Parts of MADDPG"),
    "family.service": ("Servicio y V2G", "Service and V2G"),
    "family.weights": ("Prioridades entre objetivos", "Priorities among objectives"),
    "family.meters": ("Contadores defectuosos", "Bad meters"),
    "family.margin": ("Contadores defectuosos, carga completa", "Bad meters, full charge"),
    "family.robustness": ("Bajas de viviendas y otra tarifa", "Homes that drop out, another tariff"),
    "family.unseen": ("Viviendas no vistas", "Unseen homes"),
    # where and when it is measured
    "split.train": ("Entrenamiento", "Training"),
    "split.validation": ("Validación", "Validation"),
    "split.test": ("Prueba", "Test"),
    "split.year": ("Año", "Year"),
    "engine.citylearn": ("CityLearn", "CityLearn"),
    "engine.model": ("modelo rápido", "fast model"),
    "edition.official": ("oficial", "official"),
    "edition.offline": ("sin conexión", "offline"),
    # axes and legends
    "axis.hour": ("Hora del día", "Hour of day"),
    "axis.date": ("Fecha", "Date"),
    "axis.net": ("Consumo neto del distrito", "District net"),
    "axis.power": ("Potencia media", "Mean power"),
    "axis.price": ("Precio", "Price"),
    "axis.carbon": ("Intensidad de carbono", "Carbon intensity"),
    "axis.split": ("Parte del año", "Part of the year"),
    "axis.minutes": ("Tiempo de reloj", "Wall-clock time"),
    "axis.updates": ("Actualizaciones", "Updates"),
    "axis.loss": ("Pérdida del actor", "Actor loss"),
    "gradients.cosine_batch": ("De un lote", "Of one batch"),
    "gradients.cosine_mean": ("Media de todos los lotes", "Mean of all batches"),
    "gradients.exact": ("{hours} (exacto)", "{hours} (exact)"),
    "axis.horizon_hours": ("Horizonte K (h)", "Horizon K (h)"),
    "axis.cosine": ("Coseno con el gradiente exacto (–)", "Cosine to the exact gradient (–)"),
    "gap.headline": ("Variante de la tesis", "The thesis' own"),
    "gap.test_weeks": ("Entrena en las de prueba", "Trains on the test weeks"),
    "gap.forecasts": ("Previsión exacta", "Exact forecasts"),
    "gap.own_ahead": ("Neto propio, exacto", "Own net ahead"),
    "gap.district_ahead": ("Neto del distrito, exacto", "District's net ahead"),
    "gap.price_ahead": ("Precio y carbono exactos", "Price and carbon ahead"),
    "gap.memory": ("Memoria de un día", "Memory of a day"),
    "gap.central": ("Ejecución central", "Central execution"),
    "gap.wide": ("Redes mayores", "Larger nets"),
    "gap.longer": ("El doble de tiempo", "Twice as long"),
    "gap.everything": ("Todo a la vez", "All of it"),
    "axis.validation": ("Compuesto\nen validación", "Validation\ncomposite"),
    "axis.hours_share": ("Parte de las horas", "Share of hours"),
    "axis.hours_rank": ("Horas de mayor consumo, en orden", "Highest hours, in order"),
    "axis.margin": ("SOC a la salida − requerido", "SOC at departure − required"),
    "axis.departures": ("Salidas", "Departures"),
    "axis.home": ("Vivienda", "Home"),
    "axis.distance": ("Diferencia relativa", "Relative difference"),
    "axis.day_starts": ("cada marca, 0:00 h", "ticks at 0:00"),
    "axis.soc_short": ("SOC medio", "Mean SOC"),
    "axis.carbon_short": ("Carbono", "Carbon"),
    "axis.change": ("cambio frente a BAU", "change against BAU"),
    "axis.difference": ("Compuesto: diferencia con «{reference}»", "Composite: difference to “{reference}”"),
    "axis.by_seed": ("Diferencia de compuesto,\npor semillas", "Difference in composite,\nby seed"),
    "axis.by_week": ("Diferencia de compuesto,\npor semanas", "Difference in composite,\nby week"),
    "axis.step_up": ("Subida de una hora a otra", "Step up from hour to hour"),
    "axis.step_down": ("Bajada de una hora a otra", "Step down from hour to hour"),
    "axis.hours_above": ("Horas por encima", "Hours above it"),
    "axis.homes": ("Viviendas", "Homes"),
    "axis.microseconds": ("Por vivienda y hora", "Per home and hour"),
    "axis.memory": ("Memoria máxima", "Peak memory"),
    "unit.points": ("puntos", "points"),
    "unit.number": ("número", "number"),
    "weeks.train": ("semanas de entrenamiento", "training weeks"),
    "weeks.validation": ("semanas de validación", "validation weeks"),
    "weeks.test": ("semanas de prueba", "test weeks"),
    "weeks.year": ("año entero", "whole year"),
    "legend.missed": ("sin atender {missed} de {all}", "{missed} of {all} missed"),
    "legend.load": ("Consumo", "Load"),
    "legend.pv": ("Fotovoltaica", "PV"),
    "legend.price": ("Precio", "Price"),
    "legend.carbon": ("Carbono", "Carbon"),
    "legend.battery": ("Baterías", "Batteries"),
    "legend.chargers": ("Coches", "Cars"),
    "legend.appliances": ("Electrodoméstico", "Appliance"),
    "legend.net": ("Consumo neto", "Net"),
    "legend.car_soc": ("Coches conectados", "Connected cars"),
    # months, for the dates of axes and of sentences
    "month.1": ("ene", "Jan"),
    "month.2": ("feb", "Feb"),
    "month.3": ("mar", "Mar"),
    "month.4": ("abr", "Apr"),
    "month.5": ("may", "May"),
    "month.6": ("jun", "Jun"),
    "month.7": ("jul", "Jul"),
    "month.8": ("ago", "Aug"),
    "month.9": ("sep", "Sep"),
    "month.10": ("oct", "Oct"),
    "month.11": ("nov", "Nov"),
    "month.12": ("dic", "Dec"),
    "full_month.1": ("enero", "January"),
    "full_month.2": ("febrero", "February"),
    "full_month.3": ("marzo", "March"),
    "full_month.4": ("abril", "April"),
    "full_month.5": ("mayo", "May"),
    "full_month.6": ("junio", "June"),
    "full_month.7": ("julio", "July"),
    "full_month.8": ("agosto", "August"),
    "full_month.9": ("septiembre", "September"),
    "full_month.10": ("octubre", "October"),
    "full_month.11": ("noviembre", "November"),
    "full_month.12": ("diciembre", "December"),
    "date.long": ("{day} de {month}", "{day} {month}"),
    # table headings
    "table.controller": ("Controlador", "Controller"),
    "table.variant": ("Variante", "Variant"),
    "table.privilege": ("Lo que se da además", "What is given"),
    "table.train": ("Entrenamiento", "Train"),
    "table.validation": ("Validación", "Validation"),
    "table.test": ("Prueba", "Test"),
    "table.departures_met": ("Salidas atendidas (prueba, la semilla peor)", "Departures met (test, worst seed)"),
    "table.training_seconds": ("CPU de entrenamiento (s)", "Training CPU (s)"),
    "table.horizon": ("K (h)", "K (h)"),
    "table.cosine_batch": ("Coseno, un lote", "Cosine, one batch"),
    "table.cosine_mean": ("Coseno, media de los lotes", "Cosine, mean of batches"),
    "table.critic_seconds": ("CPU del crítico (s)", "Critic CPU (s)"),
    "table.seeds": ("Semillas", "Seeds"),
    "table.pairs": ("Pares", "Pairs"),
    "table.split": ("Parte", "Split"),
    "table.kpi": ("Indicador", "KPI"),
    "table.figure": ("Magnitud", "Figure"),
    "table.value": ("Valor", "Value"),
    "table.unit": ("Unidad", "Unit"),
    "table.gate": ("Servicio", "Service"),
    "table.model": ("Modelo rápido", "Fast model"),
    "table.citylearn": ("CityLearn", "CityLearn"),
    "table.distance": ("Diferencia relativa", "Relative difference"),
    "table.home": ("Vivienda", "Home"),
    "table.parameter": ("Parámetro", "Parameter"),
    "table.meaning": ("Significado", "Meaning"),
    "table.observations": ("Observaciones", "Observations"),
    "table.actions": ("Acciones", "Actions"),
    "table.battery": ("Batería (kWh)", "Battery (kWh)"),
    "table.chargers": ("Cargadores", "Chargers"),
    "table.appliances": ("Electrodomésticos", "Appliances"),
    "table.composite_year": ("Compuesto, año", "Composite, year"),
    "table.above_year": ("Sobre la cota, año", "Above the bound, year"),
    "table.composite_test": ("Compuesto, semanas de prueba", "Composite, test weeks"),
    "table.above_test": ("Sobre la cota, semanas de prueba", "Above the bound, test weeks"),
    "table.training_minutes": ("Entrenamiento (min CPU)", "Training (CPU min)"),
    "table.year_minutes": ("Un año (min CPU)", "A year (CPU min)"),
    "table.decision_us": ("Una decisión (µs)", "One decision (µs)"),
    "table.decision_slow_us": ("Percentil 95 (µs)", "95th percentile (µs)"),
    "table.difference_weeks": ("Por semanas", "By weeks"),
    "table.iqm": ("IQM", "IQM"),
    "table.difference": ("Diferencia", "Difference"),
    "table.p_holm": ("p (Holm)", "p (Holm)"),
    "table.p_weeks": ("p por semanas (Holm)", "p by weeks (Holm)"),
    "table.improvement": ("P(mejora)", "P(improvement)"),
    "table.homes": ("Viviendas", "Homes"),
    "table.batch": ("Copias", "Copies"),
    "table.updates": ("Actualizaciones", "Updates"),
    "table.seconds_per_update": ("Tiempo por actualización (s)", "Time per update (s)"),
    "table.microseconds": ("Por vivienda y hora (µs)", "Per home and hour (µs)"),
    "table.memory": ("Memoria máxima (GiB)", "Peak memory (GiB)"),
    "table.group": ("Grupo", "Group"),
    "table.cost_reference": ("Coste / BAU, entrenado en todas", "Cost / BAU, trained on all"),
    "table.cost_difference": ("Diferencia de coste", "Difference in cost"),
    "group.trained": ("de entrenamiento", "trained on"),
    "group.unseen": ("no vistas", "unseen"),
    "gate.pass": ("sí", "yes"),
    "gate.fail": ("NO", "NO"),
    "word.and": ("y", "and"),
    "word.yes": ("sí", "yes"),
    "word.no": ("no", "no"),
    # captions: their numbers come from the frames the figure was drawn from
    "caption.kpi_bars": (
        (
            "Indicadores de cada controlador sobre los de la práctica habitual (BAU = 1; menos es mejor), "
            "{split}, {engine}, edición {edition}. {best}{spread}{failing}"
        ),
        (
            "KPIs of each controller over those of business as usual (BAU = 1; lower is better), "
            "{split}, {engine}, {edition} edition. {best}{spread}{failing}"
        ),
    ),
    "caption.best": (
        "El menor compuesto entre los que cumplen el servicio y no conocen el futuro es el de {controller}: {value}.",
        "The lowest composite among those that pass the service gate and do not know the future is that of "
        "{controller}: {value}.",
    ),
    "caption.ours": (" El de {controller} es {value}.", " That of {controller} is {value}."),
    "caption.spread": (
        " Cada punto es una semilla; los bigotes, el intervalo t del 95{space}% entre semillas ({seeds}), menor que "
        "los puntos donde no se ve.",
        " Each point is a seed; whiskers are the 95% t interval over seeds ({seeds}), smaller than the points where "
        "it cannot be seen.",
    ),
    "caption.failing": (
        " † Por debajo del servicio exigido (salidas atendidas ≥ {gate}, todos los ciclos): {controllers}.",
        " † Below the service gate (departures met ≥ {gate}, every cycle served): {controllers}.",
    ),
    "caption.foresight": (
        " ‡ Conoce el futuro y no compite.{replayed}",
        " ‡ Knows the future and does not compete.{replayed}",
    ),
    "caption.replayed": (
        " «Reproducido» sigue el plan de la cota, hecho sobre un modelo lineal, con la física verdadera, donde ya no "
        "es el mejor.",
        " “Replayed” follows the bound's plan, made on a linear model, under the true physics, where it is no longer "
        "the best.",
    ),
    "caption.bau_is_one": ("BAU es 1 por definición", "BAU is 1 by definition"),
    "caption.gradients": (
        "Coseno entre el gradiente del actor de cada horizonte y el exacto ({hours}{space}h a través del modelo), con "
        "actores fijos y un crítico ya entrenado (modelo rápido, edición {edition}; {seeds} semillas, los puntos "
        "pequeños): de un lote de {batch} copias y, entre paréntesis, de la media de todos los lotes. {values}.",
        "Cosine between each horizon's actor gradient and the exact one ({hours}{space}h through the model), with "
        "actors that stand still and a trained critic (fast model, {edition} edition; {seeds} seeds, the small "
        "points): of a batch of {batch} copies and, in brackets, of the mean of all batches. {values}.",
    ),
    "caption.gap": (
        "Compuesto sobre BAU en cada parte del año, según lo que se da además al mismo algoritmo ({seeds} semillas, "
        "los puntos pequeños; presupuesto corto, modelo rápido, edición {edition}, cada bloque empezado de nuevo): "
        "explica la distancia y no es un resultado, pues la mayoría de las variantes ve lo que ningún controlador "
        "puede ver. En las semanas de prueba, con el intervalo t del 95{space}%: {values}.",
        "Composite over business as usual in each split, by what the same learner is given besides ({seeds} seeds, "
        "the small points; short budget, fast model, {edition} edition, each block begun anew): it explains the "
        "distance and is no result, for most of them see what no controller can see. On the test weeks, with the 95% "
        "t interval: {values}.",
    ),
    "caption.gradients_table": (
        "Coseno entre el gradiente del actor de cada horizonte y el exacto ({hours}{space}h a través del modelo), con "
        "actores fijos y un crítico ya entrenado (modelo rápido, edición {edition}; media de {seeds} semillas): de un "
        "lote de {batch} copias y de la media de todos los lotes.",
        "Cosine between each horizon's actor gradient and the exact one ({hours}{space}h through the model), with "
        "actors that stand still and a trained critic (fast model, {edition} edition; mean of {seeds} seeds): of a "
        "batch of {batch} copies and of the mean of all batches.",
    ),
    "caption.gap_table": (
        "Compuesto sobre BAU en cada parte del año, según lo que se da además al mismo algoritmo ({seeds} semillas; "
        "presupuesto corto, modelo rápido, edición {edition}, cada bloque empezado de nuevo; intervalo t del "
        "95{space}%): explica la distancia y no es un resultado, pues la mayoría de las variantes ve lo que ningún "
        "controlador puede ver.",
        "Composite over business as usual in each split, by what the same learner is given besides ({seeds} seeds; "
        "short budget, fast model, {edition} edition, each block begun anew; 95% t interval): it explains the "
        "distance and is no result, for most of them see what no controller can see.",
    ),
    "caption.composite_by_split": (
        "Compuesto sobre BAU en cada parte del año de quienes cumplen el servicio, {engine}, edición {edition}; "
        "puntos pequeños, semillas; bigotes, intervalo t del 95{space}% (donde no se ve es menor que las marcas). De "
        "las {first} a las {last}, entre otros: {gaps}.",
        "Composite over BAU in each part of the year of those that pass the service gate, {engine}, {edition} "
        "edition; small points are seeds, whiskers 95% t intervals (smaller than the marks where they cannot be "
        "seen). From {first} to {last}, among them: {gaps}.",
    ),
    "caption.learning_curve": (
        "Curva de aprendizaje de la semilla {seed}: {what}, frente al tiempo de reloj de una máquina que hacía más "
        "cosas y a las actualizaciones. Compuesto en la última validación: {ends}. De referencia: {references}.",
        "Learning curve of seed {seed}: {what}, against the wall clock of a machine that had other work too, and "
        "updates. Composite at the last validation: {ends}. For reference: {references}.",
    ),
    "caption.learning_curves": (
        "Curvas de aprendizaje (semillas: {seeds}): {what}, frente al tiempo de reloj de una máquina que hacía más "
        "cosas y a las actualizaciones. Compuesto en la última validación, media ± intervalo t del 95{space}% entre "
        "semillas: {ends}. Líneas horizontales: {references}.",
        "Learning curves (seeds: {seeds}): {what}, against the wall clock of a machine that had other work too, and "
        "updates. Composite at the last validation, mean ± 95% t interval over seeds: {ends}. Horizontal lines: "
        "{references}.",
    ),
    "caption.with_loss": ("pérdida del actor y compuesto de validación", "actor loss and validation composite"),
    "caption.composite_alone": (
        "compuesto de validación (abajo, ampliado donde empiezan los comparados y donde llegan a su mínimo)",
        "validation composite (below, enlarged to where the compared learners begin and are at their best)",
    ),
    "caption.mean_day": (
        "Día medio del distrito ({days} días): consumo neto por controlador, con el consumo no controlable, la "
        "fotovoltaica y el precio. Donde hay semillas ({seeds}), su media; líneas finas, cada una. Máximo del día "
        "medio: {peaks}.",
        "Mean day of the district ({days} days): net consumption by controller, with the uncontrolled load, PV and "
        "the price. Where there are seeds ({seeds}), their mean; thin lines, each. Highest hour of the mean day: "
        "{peaks}.",
    ),
    "caption.load_duration": (
        "Curva de duración del consumo neto del distrito ({hours} horas, semilla {seed}{last}) y sus {top} horas de "
        "mayor consumo. Máximo: {peaks}.",
        "Load duration curve of the district's net consumption ({hours} hours, seed {seed}{last}) and its {top} "
        "highest hours. Maximum: {peaks}.",
    ),
    "caption.last_row": (
        "; la última fila de los datos no tiene acción",
        "; the data's last row has no action",
    ),
    "caption.hard_week": (
        "La semana más dura, del {start} al {end}: la del mayor pico de BAU (de quien aprende, la semilla {seed}). "
        "Pico de la semana: {peaks}.",
        "The hard week, {start} to {end}: the one with BAU's highest peak (of learners, seed {seed}). "
        "Peak of the week: {peaks}.",
    ),
    "caption.peak": ("{controller} {peak}{space}kW", "{controller} {peak}{space}kW"),
    "caption.departure_margins": (
        "Margen de carga en las salidas viables (semilla {seed}): SOC al salir menos el requerido; en escala "
        "logarítmica, para que se vean, en negro a la izquierda de la línea de trazos, las que no llegan a la "
        "tolerancia de {tolerance} puntos. Cuántas son y, entre paréntesis, el margen mediano en puntos: {missed}.",
        "Charge margin at feasible departures (seed {seed}): SOC on leaving minus the required one; on a logarithmic "
        "scale, so that those below the tolerance of {tolerance} points, black and left of the dashed line, can be "
        "seen. These are, with the median margin in points in brackets: {missed}.",
    ),
    "caption.missed": (
        "{controller} {missed} de {departures} ({median})",
        "{controller} {missed} of {departures} ({median})",
    ),
    "caption.home_heatmap": (
        "{kpi} de cada vivienda, cambio frente a BAU (semilla {seed}); a rayas, donde paga más, aunque sea menos de un "
        "1{space}%. Entre otros, {spread}.{failing}",
        "{kpi} of each home, change against BAU (seed {seed}); hatched where it pays more, be it less than 1%. "
        "Among them, {spread}.{failing}",
    ),
    "caption.home_spread": (
        "{controller}: de {low} (vivienda {low_home}) a {high} (vivienda {high_home}), viviendas que pagan más: {more}",
        "{controller}: from {low} (home {low_home}) to {high} (home {high_home}), homes that pay more: {more}",
    ),
    "caption.price_response": (
        "Consumo neto medio del distrito por decil de precio y de intensidad de carbono, con todas las semillas "
        "({seeds}). Del decil más barato al más caro: {price}.",
        "Mean district net consumption by decile of price and of carbon intensity, all seeds ({seeds}) together. From "
        "the cheapest decile to the dearest: {price}.",
    ),
    "caption.response": (
        "{controller} {low} → {high}{space}kW",
        "{controller} {low} → {high}{space}kW",
    ),
    "caption.engine_distance": (
        "Distancia entre el modelo rápido y CityLearn, por indicador ({split}); las menores que {floor}, iguales "
        "salvo redondeo, se dibujan ahí. La mayor{apart} es {worst} ({kpi}, {controller}); la línea marca {bar}, lo "
        "exigido.{plans}",
        "Distance between the fast model and CityLearn, by KPI ({split}); those below {floor}, equal up to rounding, "
        "are drawn there. The largest{apart} is {worst} ({kpi}, {controller}); the line marks {bar}, the bar "
        "set.{plans}",
    ),
    "caption.plans_apart": (" sin los planes del MPC", " without MPC's plans"),
    "caption.engine_plans": (
        " Los planes del MPC pasan de esa línea, hasta {worst} ({kpi}, {controller}): se resuelven de nuevo cada hora "
        "y, donde dos cuestan casi lo mismo, decide lo que CityLearn redondea al guardar en float32; con las mismas "
        "acciones el año es el mismo.",
        " MPC's plans pass that line, up to {worst} ({kpi}, {controller}): they are solved anew every hour, and where "
        "two cost nearly the same, what CityLearn's float32 storage rounds away decides; the same actions give the "
        "same year.",
    ),
    "caption.policy_day": (
        (
            "Un día de {controller}, el {date}: potencia media del distrito en cada hora, estado de carga (SOC), "
            "precio y carbono. El mayor consumo neto es {peak}{space}kW a las {hour}{space}h (el electrodoméstico "
            "toma {appliance}{space}kW); las baterías cargan {charged}{space}kWh y los coches reciben {cars}{space}kWh."
        ),
        (
            "A day of {controller}, {date}: the district's mean power in each hour, state of charge (SOC), price and "
            "carbon. The highest net consumption is {peak}{space}kW at hour {hour} (the appliance takes "
            "{appliance}{space}kW); batteries charge {charged}{space}kWh and cars receive {cars}{space}kWh."
        ),
    ),
    "caption.main": (
        "Indicadores por controlador, {split}, {engine}, edición {edition}: media ± intervalo t del 95{space}% entre "
        "semillas donde hay más de una. Servicio: salidas atendidas ≥ {gate} y todos los ciclos servidos; los que no "
        "lo cumplen van aparte, al final. Compuesto, sobre BAU: {composite}. ‡ Conoce el futuro y no compite; cota es "
        "solo la del óptimo, que no se simula; «reproducido» sigue ese plan con la física verdadera, donde ya no es "
        "el mejor. Cálculo, en minutos de CPU: un entrenamiento (media de las semillas; de la regla ajustada, su "
        "búsqueda) y un año con el simulador (de la cota, resolverlo).",
        "KPIs by controller, {split}, {engine}, {edition} edition: mean ± 95% t interval over seeds where there is "
        "more than one. Service: departures met ≥ {gate} and every cycle served; those that fail are listed apart, "
        "last. Composite, over BAU: {composite}. ‡ Knows the future and does not compete; only the optimum's bound is "
        "one, and it is not simulated; “replayed” follows that plan under the true physics, where it is no longer the "
        "best. Computing, in CPU minutes: one training (mean of the seeds; the tuned rule's search) and a year with "
        "the simulator (of the bound, solving it).",
    ),
    "caption.verdict": (
        "Lo que consigue {controller}, semilla {seed}, y BAU, en semanas que no vio: {split}, {engine}, edición "
        "{edition}. Servicio: salidas atendidas ≥ {gate} y todos los ciclos servidos.",
        "What {controller}, seed {seed}, and BAU reach on weeks it never saw: {split}, {engine}, {edition} edition. "
        "Service: departures met ≥ {gate} and every cycle served.",
    ),
    "caption.costs": (
        "Lo que cuesta calcular: un entrenamiento (media de las semillas; de la regla ajustada, su búsqueda) y un año "
        "en {engine}, simulador incluido (de la cota, resolverlo), en minutos de CPU; y una decisión de todas las "
        "viviendas, mediana y percentil 95, en tiempo de reloj: el MPC resuelve un problema cada hora, la política "
        "aprendida evalúa una red (el grafo ONNX que se sirve; –: sin medir). Datos: edición {edition}.",
        "What computing costs: one training (mean of the seeds; the tuned rule's search) and a year in {engine}, its "
        "simulator included (of the bound, solving it), in CPU minutes; and one decision for all homes, median and "
        "95th percentile, by the wall clock: MPC solves a problem each hour, the learned policy evaluates a network "
        "(the ONNX graph that is served; –: not measured). Data: {edition} edition.",
    ),
    "caption.bounds": (
        "Compuesto sobre BAU y distancia a la cota del óptimo, con una cota para el año y otra para las semanas de "
        "prueba ({engine}, edición {edition}). La cota es un programa lineal que conoce el futuro y relaja lo que no "
        "es lineal; «reproducido» lleva su plan a la física verdadera.",
        "Composite over BAU and distance to the optimum's bound, with one bound for the year and one for the test "
        "weeks ({engine}, {edition} edition). The bound is a linear programme that knows the future and relaxes what "
        "is not linear; “replayed” carries its plan out under the true physics.",
    ),
    "caption.settings": (
        "Ajustes con que se entrena {variant}, de configs/{profile}.yaml.",
        "Settings that {variant} is trained with; the meaning is the comment in configs/{profile}.yaml.",
    ),
    "caption.community": (
        "Lo que cada vivienda tiene, observa y decide, edición {edition}.",
        "What each home has, observes and decides, {edition} edition.",
    ),
    "caption.homes": (
        "Cambio del coste de cada vivienda frente a BAU (semilla 0), {split}, {engine}, edición {edition}.",
        "Change of each home's cost against BAU (seed 0), {split}, {engine}, {edition} edition.",
    ),
    "caption.relative": (
        "Indicadores sobre los de BAU (menos es mejor), {split}, {engine}, edición {edition}: media ± intervalo t del "
        "95{space}% entre semillas donde hay más de una. ‡ Conoce el futuro y no compite.",
        "KPIs over those of BAU (lower is better), {split}, {engine}, {edition} edition: mean ± 95% t interval over "
        "seeds where there is more than one. ‡ Knows the future and does not compete.",
    ),
    "caption.forest": (
        (
            "{family}: diferencia de compuesto con «{reference}», semilla a semilla (puntos; {seeds} semillas), su "
            "media y su intervalo t del 95{space}%; {split}, {engine}, edición {edition}. Menos es mejor. "
            "{differences}.{failing}"
        ),
        (
            "{family}: difference in composite to “{reference}”, seed by seed (points; {seeds} seeds), its mean and "
            "95% t interval; {split}, {engine}, {edition} edition. Lower is better. {differences}.{failing}"
        ),
    ),
    "caption.forest_line": (
        "{variant}: {difference} (p de Holm {p})",
        "{variant}: {difference} (Holm's p {p})",
    ),
    "caption.paired_line": (
        "{variant}: {difference} (p de Holm {p} por semillas, {p_weeks} por semanas)",
        "{variant}: {difference} (Holm's p {p} by seed, {p_weeks} by week)",
    ),
    "caption.doubtful": (
        " Lo que distinguen las semillas y no las semanas: {variants}.",
        " What seeds tell apart and weeks do not: {variants}.",
    ),
    "caption.paired": (
        "{ours} menos cada controlador: diferencia de compuesto por semillas ({seeds}) y por semanas de prueba "
        "({weeks}), cada punto una, con su media y su intervalo t del 95{space}%; {split}, {engine}, edición "
        "{edition}. Por debajo de cero gana {ours}; más allá de ±{linear} la escala es logarítmica. Entre otros, "
        "{differences}.{doubtful}{failing}",
        "{ours} minus each controller: difference in composite by seed ({seeds}) and by test week ({weeks}), a point "
        "each, with mean and 95% t interval; {split}, {engine}, {edition} edition. Below zero, {ours} is better; "
        "beyond ±{linear} the scale is logarithmic. Among them, {differences}.{doubtful}{failing}",
    ),
    "caption.ramping": (
        "Rampas: parte de las horas en que el consumo neto del distrito sube, o baja, más de lo que marca el eje, con "
        "todas las semillas ({seeds}). Subida media (las bajadas cuentan cero) y la que se supera una hora de cada "
        "cien: {steps}.",
        "Ramping: share of the hours in which the district's net consumption steps up, or down, by more than the axis "
        "says, all seeds ({seeds}) together. Mean step up (downward ones count zero) and the one exceeded in one hour "
        "of a hundred: {steps}.",
    ),
    "caption.step": (
        "{controller} {mean} y {rare}{space}kW",
        "{controller} {mean} and {rare}{space}kW",
    ),
    "caption.met": ("{variant} ({met} de las salidas)", "{variant} ({met} of the departures)"),
    "caption.dagger": (
        " † Por debajo del servicio exigido: {variants}.",
        " † Below the service gate: {variants}.",
    ),
    "caption.of": (" {split}, {engine}, edición {edition}.", " {split}, {engine}, {edition} edition."),
    "caption.family": (
        "{family}: compuesto sobre BAU (media ± intervalo t del 95{space}%, IQM con intervalo bootstrap), diferencia "
        "pareada con «{reference}», p de Holm en la familia, probabilidad de mejora; salidas atendidas, de la peor "
        "semilla; {split}, {engine}, edición {edition}.",
        "{family}: composite over BAU (mean ± 95% t interval, IQM with its bootstrap interval), paired difference to "
        "“{reference}”, Holm's p within the family, probability of improvement; departures met, of the worst seed; "
        "{split}, {engine}, {edition} edition.",
    ),
    "caption.front": (
        "Lo que ganan y pierden las prioridades: pico diario, rampas y emisiones frente al coste, sobre BAU; puntos "
        "pequeños, semillas; {split}, {engine}, edición {edition}. La línea une los juegos de pesos entre la factura "
        "y la red, en orden: no es una frontera de Pareto. El menor coste es el de {cheapest}, el menor pico el de "
        "{flattest}.{failing}",
        "What priorities gain and lose: daily peak, ramping and emissions against cost, over BAU; small points are "
        "seeds; {split}, {engine}, {edition} edition. The line joins the sets of weights between the bill and the "
        "grid, in order: it is no Pareto front. The lowest cost is that of {cheapest}, the lowest peak that of "
        "{flattest}.{failing}",
    ),
    "caption.front_point": ("«{variant}» ({value})", "“{variant}” ({value})"),
    "caption.scale": (
        "Tamaño: tiempo de entrenamiento de una vivienda en una hora recorrida (sin compilar, con validaciones), "
        "memoria máxima del proceso y compuesto sobre la BAU de cada comunidad ({split}, {engine}, edición "
        "{edition}), por viviendas; media e intervalo t del 95{space}% de {seeds} semillas. Marcas huecas: con menos "
        "copias a la vez o menos actualizaciones. {points}.",
        "Size: training time of one home in one rolled hour (without compilation, with validations), peak memory of "
        "the process and composite over each community's own BAU ({split}, {engine}, {edition} edition), by homes; "
        "mean and 95% t interval of {seeds} seeds. Hollow: with fewer copies at once or fewer updates. {points}.",
    ),
    "caption.scale_table": (
        "Tamaño: tiempo de entrenamiento de una vivienda en una hora recorrida (sin compilar, con validaciones), "
        "memoria máxima del proceso y compuesto sobre la BAU de cada comunidad ({split}, {engine}, edición "
        "{edition}), por viviendas; media e intervalo t del 95{space}% de {seeds} semillas.",
        "Size: training time of one home in one rolled hour (without compilation, with validations), peak memory of "
        "the process and composite over each community's own BAU ({split}, {engine}, {edition} edition), by homes; "
        "mean and 95% t interval of {seeds} seeds.",
    ),
    "caption.levels": (
        "Compuesto de cada algoritmo: media con su intervalo t del 95{space}% y media intercuartílica con el suyo por "
        "bootstrap, entre semillas; {split}, {engine}, edición {edition}.",
        "Each learner's composite: mean with its 95% t interval, and interquartile mean with its bootstrap interval, "
        "over seeds; {split}, {engine}, {edition} edition.",
    ),
    "caption.service_kpis": (
        "Lo que cuesta el servicio y lo que aporta descargar los coches: indicadores de cada variante, media e "
        "intervalo t del 95{space}% entre semillas; {split}, {engine}, edición {edition}.",
        "What service costs, and what discharging the cars brings: KPIs of each variant, mean and 95% t interval over "
        "seeds; {split}, {engine}, {edition} edition.",
    ),
    "caption.groups": (
        "Coste de las viviendas con las que se entrenó (las {homes} primeras) y de las demás, sobre el de BAU: media "
        "± intervalo t del 95{space}% entre semillas, y la diferencia por parejas; {split}, {engine}, edición "
        "{edition}.",
        "Cost of the homes that were trained on (the first {homes}) and of the others, over BAU's: mean ± 95% t "
        "interval over seeds, and the paired difference; {split}, {engine}, {edition} edition.",
    ),
    "caption.scale_point": (
        "{homes} viviendas (copias: {batch}; actualizaciones: {updates}): {each}{space}µs, {memory}{space}GiB",
        "{homes} homes (copies: {batch}; updates: {updates}): {each}{space}µs, {memory}{space}GiB",
    ),
    "caption.distance": (
        "El mismo controlador en el modelo rápido y en CityLearn ({split}).",
        "The same controller in the fast model and in CityLearn ({split}).",
    ),
}
TEXT |= words.TEXT


def use(language: str) -> None:
    """Choose the language of everything printed from here on.

    Raises:
        ValueError: the language is neither ``es`` nor ``en``.
    """
    global _language
    if language not in LANGUAGES:
        raise ValueError(f"unknown language {language!r}: use one of {', '.join(LANGUAGES)}")
    _language = language


@contextmanager
def using(language: str) -> Iterator[None]:
    """The language of a block of code, such as a sentence of a notebook; ``use`` says which are allowed."""
    before = _language
    use(language)
    try:
        yield
    finally:
        use(before)


def language() -> str:
    """The language in use, ``es`` or ``en``."""
    return _language


def t(key: str, **values: object) -> str:
    """The text behind a key in the language in use, with ``{name}`` fields filled from ``values``.

    Numbers among the values are to be formatted beforehand with ``number``.

    Raises:
        ValueError: no such key, or a field of the text was given no value.
    """
    if key not in TEXT:
        raise ValueError(f"no label {key!r}: add it to thesis_lib/analysis/labels.py in both languages")
    text = TEXT[key][LANGUAGES.index(_language)]
    try:
        return text.format(space=SPACE, **values)
    except KeyError as missing:
        raise ValueError(f"label {key!r} needs a value for {missing}") from None


def _choose(es: str, en: str) -> str:
    return es if _language == "es" else en


def number(value: float, digits: int | None = 2, *, sign: bool = False) -> str:
    """A number as the language writes it; ``digits=None`` keeps what is significant (for axis ticks).

    The minus is the typographic one; thousands are grouped from five figures on in Spanish (RAE), from
    four in English. NaN becomes a dash.
    """
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    text = f"{abs(value):,.{digits}f}" if digits is not None else f"{abs(value):,.10g}"
    whole, point, fraction = text.partition(".")
    if _language == "es":
        whole = whole.replace(",", "" if len(whole) == 5 else SPACE)
    text = whole + (_choose(",", ".") + fraction if point else "")
    zero = not any(digit in "123456789" for digit in text)
    if value < 0 and not zero:
        return "−" + text
    return "+" + text if sign and not zero else text


def decimals(text: str) -> str:
    """A text with figures such as ``7.4 + 11`` or ``≥ 1500``, each as the language writes it."""
    return re.sub(r"\d+(?:\.\d+)?", lambda found: number(float(found[0]), None), text)


def percent(ratio: float, digits: int = 0, *, sign: bool = False) -> str:
    """A ratio as a percentage: 0.873 -> ``87 %`` in Spanish, ``87%`` in English."""
    return number(100 * ratio, digits, sign=sign) + _choose(SPACE + "%", "%")


_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def scientific(value: float) -> str:
    """A small figure by its order of magnitude: ``3.1 × 10⁻⁷``; 0 stays 0."""
    if value == 0 or math.isnan(value):
        return number(value, 0)
    mantissa, exponent = f"{value:.1e}".split("e")  # rounded first: 9.96e-7 is 1.0e-6
    return f"{number(float(mantissa), 1)} × 10{str(int(exponent)).translate(_RAISED)}"


def interval(mean: float, half: float | None, digits: int = 2) -> str:
    """``mean ± half`` with the digits asked for; the mean alone where there is no half width."""
    if half is None or math.isnan(half):
        return number(mean, digits)
    return f"{number(mean, digits)} ± {number(half, digits)}"


def bounds(text: str, low: float, high: float, digits: int = 2) -> str:
    """A printed value with its interval in brackets; the value alone where there is none."""
    return text if math.isnan(low) else f"{text} [{number(low, digits)}; {number(high, digits)}]"


def p_value(p: float) -> str:
    """A p value with three decimals; below the last of them, as such."""
    return f"< {number(0.001, 3)}" if p < 0.0005 else number(p, 3)


class Numbers(Formatter):
    """Tick formatter that writes numbers as the language in use when it was made, free of any locale.

    All ticks of an axis get the same number of decimals: the fewest that tell them apart.
    """

    def __init__(self) -> None:
        self.language = _language

    def __call__(self, value: float, position: int | None = None) -> str:
        """One tick on its own, with what decimals it needs."""
        return self.format_ticks([value])[0]

    def format_ticks(self, values: Sequence[float]) -> list[str]:
        """The texts of all ticks of an axis."""
        decimals = 0
        while decimals < 9 and any(abs(round(v, decimals) - v) > 1e-9 * max(1, abs(v)) for v in values):
            decimals += 1
        with using(self.language):
            return [number(value, decimals) for value in values]


UNITS = {"EUR": "€", "EUR/kWh": "€/kWh", "kg": "kg CO₂", "kg/kWh": "kg CO₂/kWh", "1": "–"}


def day(row: int) -> str:
    """The day of data row ``row`` (hours after 2024-08-01 00:00) on an axis: ``27 ago`` or ``27 Aug``."""
    date = FIRST_DAY + dt.timedelta(days=int(row) // 24)
    return f"{date.day}{SPACE}{t(f'month.{date.month}')}"


def date(row: int) -> str:
    """The same in a sentence: ``27 de agosto`` or ``27 August``."""
    date = FIRST_DAY + dt.timedelta(days=int(row) // 24)
    return t("date.long", day=date.day, month=t(f"full_month.{date.month}"))


def listing(texts: Sequence[str]) -> str:
    """``a``, ``a and b`` or ``a; b; c``, in the language in use."""
    return f" {t('word.and')} ".join(texts) if len(texts) <= 2 else "; ".join(texts)


def unit(name: str) -> str:
    """A unit of ``kpis.csv`` as printed: ``EUR`` -> €, ``kg`` -> kg CO₂, ``1`` -> – (a ratio)."""
    return UNITS.get(str(name), str(name))


def axis(key: str, unit_text: str) -> str:
    """An axis label with its unit in brackets; ``unit_text`` is printed through ``unit``."""
    return f"{t(key)} ({unit(unit_text)})"


_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "−": r"$-$",
    "–": "--",
    "€": r"\texteuro{}",
    "₂": r"\textsubscript{2}",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "σ": r"$\sigma$",
    "µ": r"\textmu{}",
    "«": r"\guillemotleft{}",
    "»": r"\guillemotright{}",
    "“": "``",
    "”": "''",
    "→": r"$\to$",
    "†": r"\textdagger{}",
    "‡": r"\textdaggerdbl{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "×": r"$\times$",
    "⁻": r"\textsuperscript{$-$}",
    **{raised: rf"\textsuperscript{{{digit}}}" for digit, raised in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")},
    SPACE: r"\,",
}


def latex(text: object) -> str:
    """A cell, heading or caption escaped for LaTeX, with the signs that are used here."""
    return "".join(_LATEX.get(letter, letter) for letter in str(text))


def difference(value: float, half: float, digits: int = 3) -> str:
    """A signed difference with its half width, where it has one."""
    text = number(value, digits, sign=True)
    return text if math.isnan(half) else f"{text} ± {number(half, digits)}"


def kpi(name: str) -> str:
    """A KPI's printed name."""
    return t(f"kpi.{name}")


def split(name: str) -> str:
    """A split's printed name."""
    return t(f"split.{name}")


def variant(name: str) -> str:
    """A variant's printed name."""
    return t(f"variant.{name}") if f"variant.{name}" in TEXT else name.replace("_", " ")


def controller(name: str, variant_name: str | None = None) -> str:
    """A controller's printed name, with its variant in brackets unless that is ``default``."""
    shown = t(f"controller.{name}") if f"controller.{name}" in TEXT else name.replace("_", " ")
    return shown if variant_name in (None, "", "default") else f"{shown} ({variant(str(variant_name))})"
