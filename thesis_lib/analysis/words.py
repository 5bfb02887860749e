"""The words of notebook 07 (the claims of an earlier guide, what was found, impact, indicators), of the README's parts,
and what the settings mean in Spanish.

Part of ``labels.TEXT``, apart because they are many; key: (Spanish, English).
"""

from __future__ import annotations

TEXT: dict[str, tuple[str, str]] = {
    # the claims of an earlier guide: what was said, what is tested, how
    "claims.number": ("N.º", "No."),
    "claims.said": ("Se dijo", "It was said"),
    "claims.tested": ("Se contrasta", "Tested"),
    "claims.measured": ("Medido", "Measured"),
    "claims.verdict": ("Veredicto", "Verdict"),
    "claims.source": ("Procedencia", "Source"),
    "claims.see": ("Véase: {names}.", "See: {names}."),
    "claims.continued": ("Continúa en la página siguiente", "Continued on next page"),
    "claims.caption": (
        "Las afirmaciones de una guía anterior, contrastadas con lo medido aquí (intervalos t del 95{space}% entre "
        "semillas).",
        "The claims of an earlier guide, tested against what was measured here (95% t intervals over seeds).",
    ),
    "verdict.confirmed": ("confirmada", "confirmed"),
    "verdict.refuted": ("refutada", "refuted"),
    "verdict.undecided": ("no concluyente", "undecided"),
    "verdict.not_testable": ("no contrastable aquí", "not testable here"),
    "verdict.not_measured": ("sin medir aún", "not yet measured"),
    "claim.1.said": (
        "MADDPG ahorra del 30 al 40{space}% de la demanda frente a no controlar.",
        "MADDPG saves 30-40% of demand against no control.",
    ),
    "claim.1.hypothesis": (
        "Compra a la red al menos un 30{space}% menos de energía que cargando al llegar.",
        "It buys at least 30% less energy from the grid than charging on arrival.",
    ),
    "claim.1.test": (
        "Semanas de prueba, por semillas; también frente a la práctica habitual.",
        "Test weeks, by seed; against business as usual too.",
    ),
    "claim.2.said": (
        "MARLISA ahorra del 15 al 25{space}%; MADDPG la supera en 10 a 15 puntos.",
        "MARLISA saves 15-25%; MADDPG beats it by 10-15 points.",
    ),
    "claim.2.hypothesis": (
        "El ahorro de MARLISA está entre el 15 y el 25{space}%, y MADDPG ahorra al menos 10 puntos más.",
        "MARLISA's saving lies within 15-25%, and MADDPG saves at least 10 points more.",
    ),
    "claim.2.test": (
        "Mismos datos y mismos presupuestos de entrenamiento y de ajuste (protocolo). Diferencia pareada por semillas.",
        "Same data and budgets of training and tuning (protocol). Paired difference by seed.",
    ),
    "claim.3.said": (
        "MARLISA es de un solo agente (Denysiuk et al. 2023, «Intelligent Shared Autonomy»).",
        "MARLISA is single-agent (Denysiuk et al. 2023, “Intelligent Shared Autonomy”).",
    ),
    "claim.3.hypothesis": ("La publicación dice un solo agente.", "The publication says one agent."),
    "claim.3.test": ("Contraste con la publicación.", "Checked against the publication."),
    "claim.4.said": ("17 edificios comerciales.", "17 commercial buildings."),
    "claim.4.hypothesis": (
        "Los edificios del conjunto de datos son comerciales.",
        "The buildings of the data set are commercial.",
    ),
    "claim.4.test": (
        "Recuento y consumo en los datos; uso, según su documentación.",
        "Count and load in the data; use as its documentation says.",
    ),
    "claim.5.said": (
        "Climatización −30{space}%, agua caliente −20{space}%.",
        "HVAC −30%, hot water −20%.",
    ),
    "claim.5.hypothesis": (
        "La demanda térmica baja con el control.",
        "Thermal demand falls under control.",
    ),
    "claim.5.test": (
        "Demanda térmica de los datos y clases de acciones.",
        "Thermal demand in the data and kinds of actions.",
    ),
    "claim.6.said": ("V2G aporta una ventaja.", "V2G brings an advantage."),
    "claim.6.hypothesis": (
        "Sin V2G el compuesto es mayor, a igual servicio.",
        "Without V2G the composite is higher, at equal service.",
    ),
    "claim.6.test": (
        "Ablación con y sin V2G, pareada por semillas, con los ciclos de baterías y coches.",
        "Ablation with and without V2G, paired by seed, with the cycles of batteries and cars.",
    ),
    "claim.7.said": (
        "Baterías con una tasa C del 25{space}% en vez del 15{space}%, autoconsumo solar total (+15{space}%).",
        "Batteries at 25% instead of 15% C-rate, full solar self-consumption (+15%).",
    ),
    "claim.7.hypothesis": (
        "Tasa C media ≥ 25{space}% (BAU ≤ 15{space}%), autoconsumo ≥ 99{space}% y 15 puntos más que BAU.",
        "Mean C-rate ≥ 25% (BAU ≤ 15%), self-consumption ≥ 99% and 15 points above BAU.",
    ),
    "claim.7.test": (
        "Horas en que la batería trabaja, semilla 0; autoconsumo por semillas en semanas de prueba.",
        "Hours in which the battery works, seed 0; self-consumption by seed on test weeks.",
    ),
    "claim.8.said": (
        "Ahorra al año 262{space}800–350{space}400 kWh, 26–35 mil dólares y 131–175 t de CO₂.",
        "Saves 262,800-350,400 kWh, 26-35 k$ and 131-175 t of CO₂ a year.",
    ),
    "claim.8.hypothesis": (
        "El ahorro anual alcanza el mínimo de cada intervalo (el precio de los datos está en euros).",
        "A year's savings reach the low end of each range (the data's price is in euros).",
    ),
    "claim.8.test": (
        "Año entero, por semillas, acotado por todo lo que consume la referencia.",
        "Whole year, by seed, bounded by all that the reference uses.",
    ),
    "claim.9.said": (
        "La recompensa de equipo enseña a cooperar.",
        "The team reward teaches cooperation.",
    ),
    "claim.9.hypothesis": (
        "La recompensa depende de las acciones, y una individual da un compuesto mayor.",
        "The reward depends on the actions, and an individual one gives a higher composite.",
    ),
    "claim.9.test": (
        "Dos acciones en la misma hora; ablación pareada por semillas, juzgada por el compuesto del equipo.",
        "Two actions in the same hour; ablation paired by seed, judged by the team's composite.",
    ),
    "claim.10.said": (
        "Entrenar MADDPG cooperativo (50 episodios) lo mejora.",
        "Training Cooperative MADDPG (for 50 episodes) improves it.",
    ),
    "claim.10.hypothesis": (
        "El compuesto de validación baja con el entrenamiento (aquí no hay episodios, sino actualizaciones).",
        "The validation composite falls with training (there are no episodes here, but updates).",
    ),
    "claim.10.test": (
        "De la primera a la última validación, por semillas; una prueba exige que cada actor se mueva.",
        "First to last validation, by seed; a test asks that every actor moves.",
    ),
    "claim.11.said": ("Ejecución descentralizada.", "Decentralised execution."),
    "claim.11.hypothesis": (
        "La acción de una vivienda no cambia con lo que observan las demás (variante local).",
        "A home's action does not change with what others observe (local variant).",
    ),
    "claim.11.test": (
        "Se perturba todo lo ajeno; y lo que cuesta no comunicarse, por semillas.",
        "Everything of the others is moved; and what silence costs, by seed.",
    ),
    "claim.12.said": ("La atención o el campo medio ayudan.", "Attention or mean field help."),
    "claim.12.hypothesis": (
        "Ambos bajan el compuesto frente a la variante local, con servicio.",
        "Both lower the composite against the local variant, with service.",
    ),
    "claim.12.test": ("Ablación pareada por semillas, Holm.", "Ablation paired by seed, Holm."),
    "claim.13.said": ("50–80 ms y 12–20 peticiones por segundo.", "50-80 ms and 12-20 requests per second."),
    "claim.13.hypothesis": (
        "La mediana de una petición y el caudal están en esos intervalos.",
        "A request's median and the throughput lie in these ranges.",
    ),
    "claim.13.test": ("Pruebas de carga del servicio.", "The service's benchmark."),
    "claim.14.said": (
        "Los pesos 0,25 / 0,25 / 0,20 / 0,15 / 0,15.",
        "The weights 0.25 / 0.25 / 0.20 / 0.15 / 0.15.",
    ),
    "claim.14.hypothesis": (
        "Entrenar con otros pesos no da un compuesto menor.",
        "Training with other weights gives no lower composite.",
    ),
    "claim.14.test": (
        "Siete juegos de pesos, pareados por semillas, Holm; los juzga el compuesto con los pesos de la guía.",
        "Seven sets of weights, paired by seed, Holm; what judges them is the composite with the guide's weights.",
    ),
    "claim.15.said": ("Escalable, transferible, robusto.", "Scalable, transferable, robust."),
    "claim.15.hypothesis": (
        "Una vivienda no cuesta más tiempo entre mil; con viviendas no vistas, contadores defectuosos, viviendas que "
        "se dan de baja y otra tarifa sigue por debajo de BAU y cumple el servicio.",
        "A home takes no more time among a thousand; with unseen homes, bad meters, homes that drop out and another "
        "tariff it stays below BAU and serves.",
    ),
    "claim.15.test": (
        "Ablaciones por semillas; las viviendas de baja hacen como BAU, y la tarifa llega unas horas más tarde.",
        "Ablations by seed; homes that drop out do as BAU, and the tariff comes some hours later.",
    ),
    "found.absent": ("Aún sin filas: {what}.", "No rows yet: {what}."),
    "found.percent": ("{value}{space}%", "{value}%"),
    "found.against": ("Frente a {base}: {parts}.", "Against {base}: {parts}."),
    "found.habits_too": (
        "Los hábitos sin entrenar ya importan un {share} menos que {base}.",
        "The untrained habits already import {share} less than {base}.",
    ),
    "found.not_taken": (
        "Los coches toman {own}{space}MWh netos al año (semilla 0), y {usual} con la práctica habitual: no salen "
        "llenos, sino {tolerance} de SOC por debajo de lo que piden, lo que cuenta como atendido.",
        "Cars take {own}{space}MWh net a year (seed 0), and {usual} under business as usual: they do not leave full, "
        "but {tolerance} of SOC below what they ask, which counts as met.",
    ),
    "found.seeds": ("{there} de {wanted} semillas", "{there} of {wanted} seeds"),
    "found.savings": ("{ours}, {seeds}. {texts}", "{ours}, {seeds}. {texts}"),
    "found.marlisa": (
        "MARLISA importa un {own} menos que {base}; el ahorro de {ours}, {points} puntos frente al suyo; compuesto "
        "{composite} ({seeds} semillas en común).",
        "MARLISA imports {own} less than {base}; the saving of {ours}, {points} points against it; composite "
        "{composite} ({seeds} seeds in common).",
    ),
    "found.citation": (
        "Es multiagente: un agente por edificio, y se coordinan entre sí ({source}). {here} (aquí, {homes} viviendas).",
        "It is multi-agent: one agent per building, and they coordinate ({source}). {here} (here, {homes} homes).",
    ),
    "found.marlisa_here": ("Se ejecuta así en esta comparación", "It runs so in this comparison"),
    "found.marlisa_not_here": ("Aún sin filas en esta comparación", "No rows in this comparison yet"),
    "found.homes": (
        "{homes} viviendas unifamiliares según su documentación, de {load}{space}MWh de consumo medio al año.",
        "{homes} homes, single-family as their documentation says, of {load}{space}MWh of mean load a year.",
    ),
    "device.electrical_storage": ("baterías", "batteries"),
    "device.electric_vehicle_storage": ("coches", "cars"),
    "device.deferrable_appliance": ("electrodomésticos aplazables", "deferrable appliances"),
    "found.thermal": (
        "La demanda térmica de los datos es {demand}{space}kWh; se controlan: {kinds}.",
        "The data's thermal demand is {demand}{space}kWh; what is controlled: {kinds}.",
    ),
    "found.v2g": (
        "Sin V2G, compuesto {gain} en las semanas de prueba. En el año, ciclos de las baterías de las viviendas: "
        "{cycles_with} con y {cycles_without} sin; los coches devuelven {back}{space}kWh (unos {car_cycles} ciclos "
        "más de sus baterías) y toman {drawn_with} en vez de {drawn_without}{space}kWh (semilla 0). {service}",
        "Without V2G, composite {gain} on the test weeks. In the year, cycles of the homes' batteries: {cycles_with} "
        "with and {cycles_without} without; cars give back {back}{space}kWh (about {car_cycles} cycles more of their "
        "batteries) and take {drawn_with} instead of {drawn_without}{space}kWh (seed 0). {service}",
    ),
    "found.both_serve": ("Ambas cumplen el servicio.", "Both serve."),
    "found.not_both_serve": (
        "No cumplen ambas el servicio: no se comparan.",
        "Not both pass the service gate: no comparison.",
    ),
    "found.battery": (
        "Autoconsumo {level}, {more} puntos frente a BAU. {rates}",
        "Self-consumption {level}, {more} points against BAU. {rates}",
    ),
    "found.c_rate": (
        "Tasa C de {controller}: media {mean}, mediana {median} (cuartiles {low} y {high}).",
        "C-rate of {controller}: mean {mean}, median {median} (quartiles {low} and {high}).",
    ),
    "found.year": (
        "Frente a {base}, al año: {parts} ({seeds}).",
        "Against {base}, a year: {parts} ({seeds}).",
    ),
    "found.of_all": ("{saved} de {all}{space}{unit}", "{saved} of {all}{space}{unit}"),
    "found.reward": (
        "La misma hora da {idle} en reposo y {full} a plena potencia (sin escalar los términos).",
        "The same hour gives {idle} when idle and {full} at full power (its terms not scaled).",
    ),
    "found.individual": (
        "Con recompensa individual, compuesto {difference}.",
        "With individual rewards, composite {difference}.",
    ),
    "found.team_from_replay": (
        "Desde la memoria (K = 0), la del equipo en lugar de la de cada vivienda: compuesto {difference}.",
        "From replay (K = 0), the team's in place of each home's own: composite {difference}.",
    ),
    "found.training": (
        "{updates} actualizaciones, {seeds}: compuesto de validación de {first} a {last}, baja {fall}.",
        "{updates} updates, {seeds}: validation composite from {first} to {last}, a fall of {fall}.",
    ),
    "found.alone": ("El mayor cambio de una acción es {moved}.", "The largest change of an action is {moved}."),
    "found.price": ("Sin oír a los demás, compuesto {price}.", "Without hearing the others, composite {price}."),
    "found.no_price": (
        "Lo que cuesta no comunicarse no está medido aún.",
        "What silence costs is not measured yet.",
    ),
    "found.attention": ("Frente a la local, compuesto: {parts}.", "Against the local one, composite: {parts}."),
    "found.service_benchmark": ("pruebas de carga del servicio", "the service's benchmark"),
    "found.latency": (
        "Mediana de una petición {latency}{space}ms a 500 por segundo; hasta {rate} por segundo.",
        "Median of a request {latency}{space}ms at 500 a second; up to {rate} a second.",
    ),
    "found.weights": ("Sobre BAU, según los pesos: {parts}. {better}", "Over BAU, by weights: {parts}. {better}"),
    "found.better_weights": ("Mejores que los de la tesis: {names}.", "Better than the thesis' own: {names}."),
    "found.no_better_weights": (
        "Ninguno mejora los de la tesis (Holm).",
        "None is better than the thesis' own (Holm).",
    ),
    "found.scale": (
        "una vivienda y hora: {now}{space}µs entre las de los datos, {each}{space}µs entre {homes}",
        "one home and hour: {now}{space}µs among the data's own, {each}{space}µs among {homes}",
    ),
    "found.composite": (
        "{variant}: compuesto {value}, salidas atendidas {met}",
        "{variant}: composite {value}, departures met {met}",
    ),
    "found.robust": (
        "{parts} (compuesto sobre BAU: menos de 1 gana; salidas, de la peor semilla; † no cumple el servicio).",
        "{parts} (composite over BAU: below 1 is better; departures, of the worst seed; † fails the service gate).",
    ),
    # impact and indicators
    "table.base": ("Frente a", "Against"),
    "table.saved": ("Ahorro en el año", "Saved in the year"),
    "table.saved_test": ("Ahorro, semanas de prueba a escala de un año", "Saved, test weeks scaled to a year"),
    "table.ceiling": ("Total de la referencia", "All of the reference's"),
    "table.peak_reduction": ("Reducción del pico", "Peak reduction"),
    "table.peak_hour": ("Hora del pico (h)", "Peak hour (h)"),
    "table.hour_shift": ("Desplazamiento (h)", "Shift (h)"),
    "table.load_factor": ("Factor de carga", "Load factor"),
    "table.car_energy": ("Energía neta a los coches (kWh)", "Net energy into cars (kWh)"),
    "table.clean_charging": ("Carga limpia", "Clean charging"),
    "table.charging_carbon": ("Carbono de la carga (kg CO₂/kWh)", "Carbon of charging (kg CO₂/kWh)"),
    "table.co2_avoided": ("CO₂ evitado (kg CO₂)", "CO₂ avoided (kg CO₂)"),
    "table.charge_satisfaction": ("Satisfacción de carga", "Charge satisfaction"),
    "caption.impact": (
        "Lo que {ours} ahorra en un año ({seeds} semillas, {engine}, edición {edition}): en el año entero, semanas de "
        "entrenamiento incluidas, y lo ahorrado en las de prueba a escala de un año; no puede ahorrarse más que todo "
        "lo de la referencia. Frente a los hábitos sin entrenar, lo que aporta el aprendizaje: con ellos los coches "
        "salen igual de cargados.",
        "What {ours} saves in a year ({seeds} seeds, {engine}, {edition} edition): in the whole year, training weeks "
        "included, and what is saved on test weeks scaled to a year; no more can be saved than all of the "
        "reference's. Against the untrained habits, what learning brings: under them cars leave as full.",
    ),
    "caption.indicators": (
        "Indicadores de la tesis, {split}, {engine}, edición {edition}. Pico: media de los diarios; reducción, "
        "desplazamiento y CO₂ evitado, frente a la práctica habitual; factor de carga: mediana de los diarios. Carga "
        "limpia: parte de la energía de los coches en horas con carbono no superior a su mediana; satisfacción: SOC "
        "al salir sobre el requerido, a lo sumo 1; ambas, la energía a los coches y su carbono, semilla 0. El confort "
        "térmico no puede medirse con estos datos.",
        "The thesis' indicators, {split}, {engine}, {edition} edition. Peak: mean of the daily ones; reduction, shift "
        "and CO₂ avoided, against business as usual; load factor: median of the daily ones. Clean charging: share of "
        "the cars' energy in hours whose carbon is at most its median; satisfaction: SOC at departure over the "
        "required one, at most 1; both, the energy into cars and its carbon, seed 0. Thermal comfort cannot be "
        "measured on these data.",
    ),
    "caption.compare": (
        "{ours} menos cada controlador, sobre BAU: diferencia pareada por semillas (intervalo t del 95{space}%) y por "
        "semanas de prueba, p de Holm en la tabla, probabilidad de mejora; valor (intervalo t) e IQM (intervalo "
        "bootstrap) son los del controlador de la fila ({split}, {engine}, edición {edition}). ‡ Conoce el futuro y "
        "no compite.",
        "{ours} minus each controller, over BAU: difference paired by seed (95% t interval) and by test week, Holm's "
        "p within the table, probability of improvement; value (t interval) and IQM (bootstrap interval) are those of "
        "the row's own controller ({split}, {engine}, {edition} edition). ‡ Knows the future and does not compete.",
    ),
    "caption.decentralised": (
        "{ours}, entrenado vivienda por vivienda, menos los que entrenan juntos o se coordinan, sobre BAU: diferencia "
        "pareada por semillas (intervalo t del 95{space}%) y por semanas de prueba, p de Holm en la tabla, "
        "probabilidad de mejora ({split}, {engine}, edición {edition}). MADDPG cooperativo aprende con el modelo "
        "(K > 0), los otros, de la memoria.",
        "{ours}, trained home by home, minus those that train together or coordinate, over BAU: difference paired by "
        "seed (95% t interval) and by test week, Holm's p within the table, probability of improvement ({split}, "
        "{engine}, {edition} edition). Cooperative MADDPG learns with the model (K > 0), the others from replay.",
    ),
    "caption.compare_terms": (
        "{ours} menos {rival}, indicador por indicador, sobre BAU: diferencia pareada por semillas (intervalo t del "
        "95{space}%), p de Holm en la tabla, probabilidad de mejora; valor (intervalo t) e IQM (intervalo bootstrap) "
        "son los de {rival} ({split}, {engine}, edición {edition}).",
        "{ours} minus {rival}, KPI by KPI, over BAU: difference paired by seed (95% t interval), Holm's p within the "
        "table, probability of improvement; value (t interval) and IQM (bootstrap interval) are those of {rival} "
        "({split}, {engine}, {edition} edition).",
    ),
    # the figures of the READMEs
    "readme.nothing": (
        "**Aún sin cifras.** Las escribe aquí `{command}` cuando ha terminado; ninguna se escribe a mano.",
        "**No figures yet.** `{command}` writes them here when it is done; none is written by hand.",
    ),
    "readme.intro": (
        "Diecisiete viviendas con baterías, paneles solares y coches eléctricos aprenden a desplazar juntas su consumo "
        "(el conjunto horario con vehículos eléctricos de CityLearn 3.0.2).",
        "Seventeen homes with batteries, solar panels and electric cars learn to shift their consumption together "
        "(CityLearn's hourly EV data set, CityLearn 3.0.2).",
    ),
    "readme.plain": (
        "De los que aprenden sin el gradiente del modelo, el menor es {best}; la regla ajustada, {rule}. Entrenado por "
        "separado menos con críticos que lo ven todo ({alone} − {central}): {difference}.",
        "Of those that learn without the model's gradient the lowest is {best}; the tuned rule, {rule}. Trained apart "
        "minus with critics that see all ({alone} − {central}): {difference}.",
    ),
    "readme.diverges": (
        "{name} cuenta con su mejor punto en validación ({best}), tras el que su entrenamiento diverge (hasta {last}).",
        "{name} counts with its best checkpoint on validation ({best}), after which its training diverges (to {last}).",
    ),
    "readme.ahead": (
        "**{ours} tiene el menor compuesto entre quienes dan servicio y no conocen el futuro: {value} del de la "
        "práctica habitual, un {rest} menos**, en semanas que nadie usó para entrenar. El siguiente es {second}; "
        "diferencia {difference}.",
        "**{ours} has the lowest composite among those that serve and do not know the future: {value} of business as "
        "usual's, {rest} less**, on weeks nobody trained on. Next is {second}; a difference of {difference}.",
    ),
    "readme.behind": (
        "**{ours} no es el mejor: llega a {value} del compuesto de la práctica habitual (un {rest} menos), en semanas "
        "que nadie usó para entrenar, y por delante: {names}.**",
        "**{ours} is not the best: it reaches {value} of business as usual's composite ({rest} less), on weeks nobody "
        "trained on, and ahead of it: {names}.**",
    ),
    "readme.fails": (
        "**{ours} no da el servicio exigido** (salidas atendidas ≥ {gate} y todos los ciclos, con cada semilla): su "
        "compuesto de {value} no es un logro.",
        "**{ours} fails the service gate** (departures met ≥ {gate} and every cycle served, with each seed): its "
        "composite of {value} is no achievement.",
    ),
    "readme.terms": (
        "Frente a la práctica habitual: {terms}; la peor semilla atiende el {met} de las salidas viables.",
        "Against business as usual: {terms}; the worst seed meets {met} of the feasible departures.",
    ),
    "readme.losers": (
        "De las {homes} viviendas, {more} pagan más que con ella (semilla 0): nada se reparte entre ellas.",
        "Of the {homes} homes, {more} pay more than under it (seed 0): nothing is shared out among them.",
    ),
    "readme.beyond": (
        "Los coches toman {own}{space}MWh netos al año en vez de {usual} (semilla 0), pues no salen llenos, sino "
        "{tolerance} de SOC por debajo de lo que piden, lo que cuenta como atendido. También lo hacen los hábitos sin "
        "entrenar; frente a ellos: {terms}.",
        "Cars take {own}{space}MWh net a year instead of {usual} (seed 0), for they do not leave full, but "
        "{tolerance} of SOC below what they ask, which counts as met. The untrained habits do so too; against them: "
        "{terms}.",
    ),
    "readme.so_far": (
        "Cifras provisionales: {there} de {seeds} semillas de {ours}; el titular será {headline} con todas.",
        "Provisional figures: {there} of {seeds} seeds of {ours}; the headline will be {headline} with all of them.",
    ),
    "readme.absent": ("Aún sin filas: {names}.", "No rows yet: {names}."),
    "readme.notes": (
        "Semanas de prueba, CityLearn, edición oficial; todo sobre la práctica habitual (menos es mejor). Compuesto: "
        "{composite}. Media ± intervalo t del 95{space}% entre semillas; salidas atendidas, de la peor semilla. † no "
        "da el servicio exigido (≥ {gate} y todos los ciclos). ‡ conoce el futuro y no compite; cota es solo la del "
        "óptimo, de un programa lineal, sin simular. El MPC manda en todas las viviendas desde un ordenador central. "
        "Cada vivienda del MADDPG decide sola: «local» no oye nada; «difusión», dos sumas del distrito; «anuncio», "
        "siete, y las baterías responden a la de lo que coches y electrodomésticos van a consumir. «MADDPG» a secas "
        "aprende de la memoria y de los críticos, sin modelo, con los mismos hábitos y la misma salvaguarda "
        "(docs/algorithm.md dice en qué se aparta del artículo), sin oír nada y con recompensa y crítico propios de "
        "cada vivienda, lo mejor de lo que se probó. Todos los que aprenden parten de «Hábitos, sin entrenar» y leen "
        "de CityLearn el precio y la irradiancia de 6, 12 y 24{space}h después, exactos salvo el precio en torno a dos "
        "días de fin de año. "
        "Atendida es una salida con el SOC pedido menos 0,05, como cuenta CityLearn: quien aprende, los hábitos, la "
        "regla ajustada y el MPC apuntan a {tolerance} menos; los demás, al SOC pedido o al coche lleno.",
        "Test weeks, CityLearn, official edition; all over business as usual (lower is better). Composite: "
        "{composite}. Mean ± 95% t interval over seeds; departures met, of the worst seed. † fails the service gate "
        "(≥ {gate} and every cycle). ‡ knows the future and does not compete; only the optimum's bound is one, of a "
        "linear programme, not simulated. MPC commands all homes from one central computer. Each home of MADDPG "
        "decides by itself: the local one hears nothing, broadcast two sums of the district, announced seven, and its "
        "batteries answer the one of what cars and appliances are about to take. Plain MADDPG learns from replay and "
        "critics, without the model, with the same habits and guard (docs/algorithm.md has its differences from the "
        "paper), hears nothing, and has a reward and a critic for each home, the best of what was tried. Every "
        "learner starts from the untrained habits and reads CityLearn's price and irradiance 6, 12 and 24{space}h "
        "ahead, exact but for the price around two days at the turn of the year. A departure is met with the SOC "
        "asked for less 0.05, as CityLearn counts: learners, habits, the tuned rule and MPC aim {tolerance} below it, "
        "the others at what is asked or at a full car.",
    ),
    "speed.what": ("Qué", "What"),
    "speed.here": ("Aquí", "Here"),
    "speed.beside": ("Comparado con", "Beside it"),
    "speed.ratio": ("Razón", "Ratio"),
    "speed.rate": ("pasos/s", "steps/s"),
    "speed.forward": ("Comunidad, 1024 copias", "Community, 1,024 copies"),
    "speed.forward, compiled": ("Comunidad, 1024 copias, compilada", "Community, 1,024 copies, compiled"),
    "speed.forward with observations": (
        "Comunidad y observaciones, 1024 copias",
        "Community and observations, 1,024 copies",
    ),
    "speed.forward and backward, compiled": (
        "Comunidad y sus gradientes, 1024 copias, compilada",
        "Community and its gradients, 1,024 copies, compiled",
    ),
    "speed.training": ("Entrenamiento de MADDPG cooperativo ({variant})", "Training of Cooperative MADDPG ({variant})"),
    "speed.training_gpu": (
        "El de la variante «{variant}», {copies} copias en una {gpu}",
        "That of the variant “{variant}”, {copies} copies on one {gpu}",
    ),
    "speed.pairs": ("17 pares actor-crítico en CityLearn", "17 actor-critic pairs on CityLearn"),
    "speed.updates": ("actualizaciones/s", "updates/s"),
    "speed.independent_td3": (
        "17 TD3 independientes, sin hábitos ni salvaguarda",
        "17 independent TD3, no habits or guard",
    ),
    "speed.independent_sac": (
        "17 SAC independientes, sin hábitos ni salvaguarda",
        "17 independent SAC, no habits or guard",
    ),
    "speed.decision": ("Decisión de las 17 viviendas (ONNX)", "Decision for all 17 homes (ONNX)"),
    "speed.year": (
        "Con CityLearn actuando por HTTP todo un año, los indicadores se apartan de los de la misma política en "
        "el propio proceso {difference} a lo sumo.",
        "With CityLearn acting over HTTP for a year, KPIs differ from those of the same policy in process by at most "
        "{difference}.",
    ),
    "speed.hours": (
        "`make {command}`: {runs} ejecuciones, {hours} horas de CPU en total; sus tiempos de reloj, partidos por "
        "dos por ir de dos en dos, suman {wall}{space}h.",
        "`make {command}`: {runs} runs, {hours} CPU hours in all; their times by the clock, halved for two at a time, "
        "come to {wall}{space}h.",
    ),
    "speed.gap": (
        "Los entrenamientos que explican la distancia al óptimo: {hours} horas de CPU más.",
        "The trainings that explain the gap: {hours} CPU hours more.",
    ),
    "speed.learned": (
        "Un paso de entrenamiento es una hora de la que se aprende. Aquí se hacen {ours} actualizaciones por segundo "
        "en los dos núcleos, cada una con miles de horas; del modo habitual, {usual}, cada una de un solo agente. "
        "Actores sin hábitos alcanzan a la regla de reparto en {minutes}{space}min de un núcleo.",
        "A step of training is an hour learned from. Here {ours} updates a second are made on both cores, each from "
        "thousands of hours; the usual way makes {usual}, each of a single agent. Actors without habits reach the "
        "spread rule's level in {minutes}{space}min of one core.",
    ),
    "speed.gpu": (
        "Una {gpu} (con torch {torch} y {cores} núcleos) hace {small} actualizaciones por segundo con {copies} copias "
        "y {large} con {more}; un entrenamiento entero de `{variant}` con {more} dura {minutes}{space}min, sin la "
        "compilación, y llega como mejor a un compuesto de {composite} en las semanas de validación.",
        "One {gpu} (with torch {torch} and {cores} cores) makes {small} updates a second with {copies} copies and "
        "{large} with {more}; a whole training of `{variant}` with {more} takes {minutes}{space}min, without "
        "compilation, and its best composite on the validation weeks is {composite}.",
    ),
    "speed.gpu_ends": (
        "El mejor de cada uno de un núcleo, con {copies}, está entre {low} y {high}.",
        "That of each training on one core, with {copies}, lies between {low} and {high}.",
    ),
    "speed.usual": (
        "El modo habitual no la alcanza en {spent}{space}min de un núcleo: tras {hours} horas de CityLearn, su "
        "compuesto en las semanas de validación es {composite} ({lowest} en su mejor momento), con el {met} de las "
        "salidas atendidas; el de la regla, {rule}.",
        "The usual way does not reach it in {spent}{space}min of one core: after {hours} hours of CityLearn its "
        "composite on the validation weeks is {composite} ({lowest} at its best), with {met} of the departures met; "
        "the rule's is {rule}.",
    ),
    "speed.usual_reached": (
        "El modo habitual la alcanza en {spent}{space}min de un núcleo, tras {hours} horas de CityLearn.",
        "The usual way reaches it in {spent}{space}min of one core, after {hours} hours of CityLearn.",
    ),
    "speed.where": ("`{command}`: {cpu}, {cores} núcleos.", "`{command}`: {cpu}, {cores} cores."),
    "speed.service": (
        "El servicio, a 500 peticiones por segundo: mediana {request_p50_ms_at_500}{space}ms, percentil 99 "
        "{request_p99_ms_at_500}{space}ms; como mucho {saturation_rps} por segundo; {rss_mb}{space}MB; listo en "
        "{ready_s}{space}s.",
        "The service, at 500 requests a second: median {request_p50_ms_at_500}{space}ms, 99th percentile "
        "{request_p99_ms_at_500}{space}ms; at most {saturation_rps} a second; {rss_mb}{space}MB; ready after "
        "{ready_s}{space}s.",
    ),
}

# What each setting means, for the Spanish tables; the English words stand beside the values in configs/*.yaml.
SETTINGS_ES = {
    "rollout_horizon": "K: horas que se recorren en la comunidad diferenciable; 0: MADDPG, solo de la memoria",
    "terminal_value": "K > 0: el crítico valora lo que viene tras la hora K",
    "discount": "descuento de la recompensa, por hora",
    "return_hours": "K = 0: recompensas que suma una transición antes de recurrir al crítico (horas)",
    "coordination": "none | broadcast | announce | attention | mean_field: qué oye una vivienda de las demás",
    "broadcast_delay": "horas de retraso de la segunda suma difundida: 0 | 1; solo con K > 0 (horas)",
    "shared_actors": "un solo juego de pesos para todas las viviendas, en vez de uno por vivienda",
    "actor_units": "anchura de las dos capas ocultas de cada actor (unidades)",
    "critics": "central (uno, de la recompensa del equipo) | per_agent (uno por vivienda)",
    "critic_units": "anchura de las dos capas ocultas del crítico (unidades)",
    "actor_optimiser": "adam | muon (cada matriz de pesos da pasos ortogonales)",
    "actor_rate": "tasa de aprendizaje de los actores",
    "weight_decay": "de los actores: por la tasa de aprendizaje, la parte que pierden los pesos en cada actualización",
    "critic_rate": "tasa de aprendizaje del crítico (Adam)",
    "target_rate": "parte de los pesos nuevos que entra en las redes objetivo en cada actualización",
    "gradient_clip": "mayor norma de un gradiente, actores y crítico por separado",
    "mixed_precision": "actores en bfloat16, lo demás en float32",
    "compile": "torch.compile de una hora del recorrido; necesita un compilador de C++",
    "updates": "presupuesto: actualizaciones de los actores (número)",
    "minutes": "presupuesto: tiempo de reloj del entrenamiento de una semilla (minutos)",
    "batch": "copias que se recorren a la vez (K > 0), transiciones de una actualización (K = 0) (número)",
    "final_rate": "las tasas de aprendizaje caen en coseno hasta esta parte en la última actualización",
    "validate_every": "actualizaciones entre validaciones, que también guardan el estado (número)",
    "habits": "los actores parten de lo que hace una vivienda cuidadosa, en vez de partir de nada",
    "guard": "sube las acciones para que no falle ninguna salida ni ningún plazo",
    "trained_homes": "entrena en estas primeras viviendas y actúa en todas (actores compartidos); 0: todas (número)",
    "v2g": "los coches pueden descargar",
    "guard_leak": "parte del gradiente que pasa donde la salvaguarda ha subido una acción",
    "guard_spare_steps": "planifica las salidas estas horas antes de la anunciada (horas)",
    "guard_tolerance": "SOC por debajo del requerido que la salvaguarda acepta; 0,05 aún cuenta (de la capacidad)",
    "replicate": "viviendas de la comunidad, las primeras o copias; 0: las de los datos (número)",
    "augment": "entrena con días, viviendas, meteorología y precios recombinados de las filas de entrenamiento",
    "swap_share": "con augment: parte de las viviendas que toma el consumo o el sol de otra",
    "reward": "team (del distrito) | individual (cada vivienda, de su consumo neto)",
    "weights": "de los términos de la recompensa, cada uno sobre el de la práctica habitual",
    "reward_offset": "se suma a la recompensa de cada hora; cerca de menos su media, los valores quedan cerca de 0",
    "observation_noise": "al evaluar: ruido de los contadores, en desviaciones típicas de lo que leen",
    "observation_missing": "al evaluar: parte de las horas en que no llegan las lecturas de una vivienda",
    "replay_capacity": "transiciones recordadas (número)",
    "copies": "comunidades que recogen experiencia a la vez (número)",
    "collect_hours": "horas que se recorren antes de empezar en otro punto (horas)",
    "updates_per_hour": "actualizaciones tras cada hora recogida (número)",
    "warmup_hours": "horas recogidas antes de la primera actualización (horas)",
    "critic_warmup": "primeras actualizaciones, que mueven solo al crítico (número)",
    "noise": "exploración: gaussian | ou",
    "noise_scale": "desviación típica de la exploración, en unidades de la acción",
    "noise_theta": "ou: parte del ruido que se olvida cada hora",
}
