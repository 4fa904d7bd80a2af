// The figures of the Spectra page, painted on any sheet: the screen's canvas, a picture, an SVG.
// A figure is painted into `box` from the model `m` and the choice `c`; `live` adds what belongs to the
// hand alone. Each returns what lies under a point: {module, component, lines}.

const TEAL = "#0f8a8a", RED = "#d1495b", GREY = "#8a94a6", BLUE = "#5b6ee1", ORANGE = "#e0a030"
const CURVES = [BLUE, "#2f9fc4", ORANGE, "#a5673f", "#8d5fd3", "#4c9f50", "#c46fa0"] // none that stands for a standing
const DASHES = [[], [6, 3], [2, 2], [8, 3, 2, 3]]
const WHAT = { sigma: "Singular values σ", energy: "Cumulative energy", mean: "Signed mean g", magnitude: "Mean |g|" }
const SHOWS = [["sigma", "σ"], ["energy", "cumulative energy"], ["mean", "signed mean g"], ["magnitude", "mean |g|"]]
const MEASURES = [["effective", "effective rank"], ["stable", "stable rank"], ["k90", "components for 90 % energy"]]
const KINDS = [["helps", TEAL, "helps"], ["neutral", GREY, "neutral within noise"], ["hurts", RED, "hurts"]]
const PER_SIGMA = "nats per unit of σ"
const PALE = 0.55

const labelOf = (pairs, name) => pairs.find(([key]) => key === name)[1]
const percent = (share, digits = 1) => `${(100 * share).toFixed(digits)} %`
const small = (value) => (value < 0 ? "−" : "") + text(Math.abs(value))
const plus = (value) => (value < 0 ? "−" : "+") + text(Math.abs(value))

function standingWords(m, i) {
  return { "-1": "helps", 0: "neutral within noise", 1: "hurts" }[m.standing[i]] ?? "no standing"
}

// everything known of a component, for tips and for screen readers
function told(m, module, k) {
  const i = module.start + k
  const lines = [
    `${module.label} · component ${k} of ${module.rank}`,
    `σ ${text(m.sigma[i])}, ${percent(m.share[i])} of the module's energy, ${percent(m.energy[i])} up to here`,
  ]
  if (m.measured && !Number.isNaN(m.mean[i])) {
    lines.push(
      `mean g ${plus(m.mean[i])} ± ${text(m.error[i])}: ${standingWords(m, i)}`,
      `mean |g| ${text(m.magnitude[i])} ± ${text(m.magnitudeError[i])}, sign agreement ${percent(m.agreement[i], 0)}`,
    )
  } else if (m.measured) lines.push("not measured")
  if (m.repeated[i]) lines.push("its σ is (nearly) repeated: only the sum of g over the equal ones is determined")
  return lines
}

// a bar from `from` to `to`; what hurts carries a mark that needs no colour
function standingBar(sheet, ink, m, i, x, width, from, to) {
  const code = m.standing?.[i]
  const colour = { "-1": TEAL, 0: GREY, 1: RED }[code] ?? (m.measured ? GREY : BLUE)
  const top = Math.min(from, to), height = Math.max(Math.abs(from - to), 0.6)
  sheet.rect(x, top, width, height, colour, code === -1 || code === 1 || !m.measured ? 1 : code === 0 ? PALE : PALE / 2)
  if (code === 1) hatch(sheet, ink, x, top, width, height)
}

function hatch(sheet, ink, x, y, width, height) {
  if (width >= 6 && height >= 8) for (let at = y + 3; at < y + height - 1; at += 5) sheet.rect(x, at, width, 1.4, ink.back)
  else sheet.rect(x, y - 2.2, width, 2.2, ink.text)
}

function legend(sheet, ink, x, y, entries) {
  for (const [colour, words, kind] of entries) {
    if (kind === "line") sheet.path([[x, y - 4], [x + 16, y - 4]], colour, { thick: 2 })
    else sheet.rect(x + 3, y - 9, 10, 10, colour, colour === GREY ? PALE : 1)
    if (kind === "hatch") hatch(sheet, ink, x + 3, y - 9, 10, 10)
    if (kind === "cap") sheet.rect(x + 3, y - 11.2, 10, 2.2, ink.text)
    sheet.text(x + 20, y, words, ink.text)
    x += 36 + words.length * 5.5
  }
  return x
}

// the mark of what hurts depends on how wide bars are, see `hatch`
const keyFor = (width) => [...KEY.slice(0, 2), [RED, "hurts", width >= 6 ? "hatch" : "cap"]]
const KEY = [[TEAL, "helps"], [GREY, "neutral within noise"], [RED, "hurts", "hatch"]]

function axisLeft(sheet, ink, left, right, y, values, format = small) {
  for (const value of values) {
    sheet.path([[left, y(value)], [right, y(value)]], ink.line)
    sheet.text(left - 5, y(value) + 4, format(value), ink.text, { align: "right" })
  }
}

// y of a value between `bottom` and `top`; on a log axis what lies under the floor stands on it
function scaleOf(low, high, log, top, bottom) {
  if (!log) return (value) => bottom - ((value - low) / (high - low || 1)) * (bottom - top)
  const floor = Math.log(low), room = Math.log(high) - floor || 1
  return (value) => bottom - (Math.max(0, Math.log(Math.max(value, 1e-300)) - floor) / room) * (bottom - top)
}

function logTicks(low, high) {
  const found = []
  const steps = high / low > 40 ? [1] : [1, 2, 5]
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++)
    for (const step of steps) found.push(step * 10 ** power)
  return found.filter((value) => value >= low * 0.999 && value <= high * 1.001)
}

function extent(values, from, to) {
  let low = Infinity, high = -Infinity, least = Infinity
  for (let i = from; i < to; i++) {
    const value = values[i]
    if (!Number.isFinite(value)) continue
    if (value < low) low = value
    if (value > high) high = value
    if (value > 0 && value < least) least = value
  }
  return { low: Math.min(0, low), high: Math.max(0, high), least }
}

// the ends of an axis for values of this extent
function ends({ low, high, least }, log, decades = 4) {
  if (!(high > low)) return [0, 1]
  return log ? [Math.max(least / 1.6, high / 10 ** decades), high] : [low, high]
}

function drawAll(sheet, ink, box, m, c, live) {
  const { rows, columns } = m.data
  const longest = Math.min(15, Math.max(...rows.map((row) => row.length), 4))
  const left = box.x + 16 + longest * 6.4, top = box.y + 24, foot = 34
  const wide = (box.x + box.width - 2 - left) / Math.max(columns.length, 1)
  const high = (box.y + box.height - foot - top) / Math.max(rows.length, 1)
  const values = m[c.show], log = c.scale === "log" && (c.show === "sigma" || c.show === "magnitude")
  const whole = c.show === "energy" ? { low: 0, high: 1, least: 0 } : extent(values, 0, values.length)
  const same = ends(whole, log)
  rows.forEach((row, at) => {
    sheet.rect(left, top + at * high, box.x + box.width - 2 - left, 0.6, ink.line)
    sheet.text(left - 8, top + (at + 0.5) * high + 4, row.length > 15 ? row.slice(0, 14) + "…" : row, ink.text, { align: "right" })
  })
  let chosen = null
  for (const module of m.modules) {
    const x = left + module.column * wide + wide * 0.05, y = top + module.row * high
    const [low, most] = c.range === "each" && c.show !== "energy"
      ? ends(extent(values, module.start, module.start + module.rank), log) : same
    const place = scaleOf(low, most, log, y + 5, y + high - 3)
    const step = (wide * 0.9) / module.rank, width = step > 3 ? step - 0.8 : step
    const zero = place(log ? low : 0)
    sheet.rect(x, zero, wide * 0.9, 0.6, ink.line)
    for (let k = 0; k < module.rank; k++) {
      const value = values[module.start + k]
      if (Number.isFinite(value) && value !== 0) standingBar(sheet, ink, m, module.start + k, x + k * step, width, zero, place(value))
    }
    if (module.name === c.module) chosen = [x, y, step]
  }
  const every = Math.ceil(26 / wide)
  columns.forEach((column, at) => {
    if (at % every === 0) sheet.text(left + (at + 0.5) * wide, box.y + box.height - 20, column, ink.text, { align: "center" })
  })
  sheet.text((left + box.x + box.width) / 2, box.y + box.height - 4, columns.some(Boolean) ? "layer; in each cell components by falling σ" : "modules; in each cell components by falling σ", ink.text, { align: "center" })
  const end = m.measured ? legend(sheet, ink, left, box.y + 12, keyFor((wide * 0.9) / (m.modules[0]?.rank ?? 1))) : legend(sheet, ink, left, box.y + 12, [[BLUE, "not measured yet"]])
  const unit = c.show === "mean" || c.show === "magnitude" ? ` ${PER_SIGMA}` : ""
  sheet.text(Math.max(end, box.x + box.width - 4), box.y + 12,
    c.range === "each" && c.show !== "energy" ? "height: each module to its own largest" : `height: ${small(same[0])} to ${small(same[1])}${unit}${log ? ", log" : ""}`,
    ink.text, { align: "right" })
  if (live && chosen) {
    sheet.frame(chosen[0] - 1.5, chosen[1] + 1.5, wide * 0.9 + 3, high - 2, ink.accent, 2)
    sheet.rect(chosen[0] + c.component * chosen[2], chosen[1] + high - 3, Math.max(chosen[2], 2), 3, ink.accent)
  }
  return (px, py) => {
    const column = Math.floor((px - left) / wide), row = Math.floor((py - top) / high)
    const module = m.at.get(`${row} ${column}`)
    if (!module) return null
    const part = (px - left - column * wide - wide * 0.05) / (wide * 0.9)
    const component = Math.max(0, Math.min(module.rank - 1, Math.floor(part * module.rank)))
    return { module, component, lines: told(m, module, component) }
  }
}

function drawOne(sheet, ink, box, m, c, live) {
  const module = m.byName.get(c.module), { start, rank } = module
  const left = box.x + 56, right = box.x + box.width - 44, cell = (right - left) / rank
  const log = c.scale === "log", width = Math.max(cell * 0.72, 0.8), inset = (cell - width) / 2
  const measured = m.measured && !Number.isNaN(m.mean[start])
  const foot = 36, head = 20, room = box.height - foot - 18
  const parts = measured ? [0.37, 0.28, 0.11, 0.24] : [1]
  let y = box.y + 18
  const panels = parts.map((part) => {
    const panel = { top: y + head, bottom: y + part * room - 4 }
    y += part * room
    return panel
  })
  const mid = (k) => left + (k + 0.5) * cell
  if (live) sheet.rect(left + c.component * cell, box.y + 20, cell, box.height - foot - 22, ink.accent, 0.13)
  const title = (panel, words) => sheet.text(left, panel.top - 7, words, ink.text, { bold: true })
  const bars = (panel, values, errors, log) => {
    const spread = extent(values, start, start + rank)
    if (errors)
      for (let i = start; i < start + rank; i++) {
        if (!Number.isFinite(errors[i])) continue
        spread.low = Math.min(spread.low, values[i] - errors[i])
        spread.high = Math.max(spread.high, values[i] + errors[i])
      }
    if (!log && spread.low < 0) spread.low = Math.min(0, spread.low)
    let [low, high] = ends(spread, log, 8)
    if (!log) high *= 1.06 // a little air under the panel's title
    const place = scaleOf(low, high, log, panel.top, panel.bottom)
    const size = Math.max(high, -low)
    const marks = log ? logTicks(low, high) : (panel.bottom - panel.top < 70 ? coarse(size) : ticks(size))
    const both = log ? marks : [...marks.slice(1).map((v) => -v), ...marks].filter((v) => v >= low - 1e-12 * size && v <= high + 1e-12 * size)
    axisLeft(sheet, ink, left, right, place, both)
    const zero = place(log ? low : 0)
    sheet.path([[left, zero], [right, zero]], ink.soft)
    for (let k = 0; k < rank; k++) {
      const i = start + k
      if (!Number.isFinite(values[i])) continue
      standingBar(sheet, ink, m, i, left + k * cell + inset, width, zero, place(values[i]))
      if (errors && Number.isFinite(errors[i])) {
        const [up, down] = [place(values[i] + errors[i]), place(values[i] - errors[i])], cap = Math.min(3, width / 3)
        sheet.path([[mid(k), up], [mid(k), down]], ink.text)
        sheet.path([[mid(k) - cap, up], [mid(k) + cap, up]], ink.text)
        sheet.path([[mid(k) - cap, down], [mid(k) + cap, down]], ink.text)
      }
    }
  }

  const [first, second, third, fourth] = panels
  bars(first, m.sigma, null, log)
  title(first, log ? "σ (bars, log)" : "σ (bars)")
  const share = scaleOf(0, 1, false, first.top, first.bottom)
  sheet.path(Array.from({ length: rank }, (_, k) => [mid(k), share(m.energy[start + k])]), ORANGE, { thick: 2 })
  for (let k = 0; k < rank && cell > 7; k++) sheet.dot(mid(k), share(m.energy[start + k]), 2.4, ORANGE)
  for (const mark of [0, 0.5, 0.9, 1]) sheet.text(right + 6, share(mark) + 4, `${Math.round(100 * mark)} %`, ink.text)
  sheet.path([[left, share(0.9)], [right, share(0.9)]], ORANGE, { dash: [3, 3], alpha: 0.7 })
  sheet.text(right, first.top - 7, "cumulative energy, share of Σσ² (line)", ink.text, { align: "right", bold: true })
  if (measured) {
    bars(second, m.mean, m.error, false)
    title(second, `mean g = ∂loss/∂σ, ${PER_SIGMA}, ± one standard error`)
    const agree = scaleOf(0, 1, false, third.top, third.bottom)
    for (const mark of [0, 0.5, 1]) {
      sheet.path([[left, agree(mark)], [right, agree(mark)]], ink.line, mark === 0.5 ? { dash: [3, 3] } : {})
      if (mark !== 0.5) sheet.text(left - 5, agree(mark) + 4, `${100 * mark} %`, ink.text, { align: "right" })
    }
    for (let k = 0; k < rank; k++) if (Number.isFinite(m.agreement[start + k])) sheet.dot(mid(k), agree(m.agreement[start + k]), cell > 8 ? 3 : 1.6, ink.text)
    title(third, "sign agreement, share of examples (dashed: a coin's 50 %)")
    bars(fourth, m.magnitude, m.magnitudeError, log)
    title(fourth, `mean |g|, ${PER_SIGMA}, ± one standard error${log ? ", log" : ""}`)
  }
  legend(sheet, ink, left, box.y + 10, m.measured ? KEY : [[BLUE, "not measured yet"]])
  const every = Math.max(1, Math.ceil(22 / cell))
  for (let k = 0; k < rank; k += every) sheet.text(mid(k), box.y + box.height - 20, k, ink.text, { align: "center" })
  sheet.text((left + right) / 2, box.y + box.height - 4, "component, by falling σ", ink.text, { align: "center" })
  return (px) => {
    const component = Math.floor((px - left) / cell)
    return component < 0 || component >= rank ? null : { module, component, lines: told(m, module, component) }
  }
}

const coarse = (high) => {
  const found = ticks(high)
  return found.filter((_, n) => n % 2 === 0)
}

function drawDepth(sheet, ink, box, m, c, live) {
  const layers = m.layers, gap = 74
  const left = box.x + 44, middle = box.x + Math.round(box.width * 0.52), right = box.x + box.width - 6
  const names = Math.min(128, 32 + 6.2 * Math.max(4, ...m.data.families.map((family) => family.length)))
  const top = box.y + 32, bottom = box.y + box.height - 38
  const end = middle - names
  const measure = labelOf(MEASURES, c.measure)
  const x = (at) => left + 8 + (at / Math.max(layers.length - 1, 1)) * (end - left - 16)
  const most = Math.max(1, ...m.modules.map((module) => (module.layer === null ? 0 : module[c.measure] ?? 0)))
  const y = scaleOf(0, most * 1.04, false, top, bottom)
  axisLeft(sheet, ink, left, end, y, ticks(most))
  sheet.text(left, box.y + 12, `${measure} of each module`, ink.text, { bold: true })
  const chosen = m.byName.get(c.module)
  const tips = []
  m.data.families.forEach((family, f) => {
    const members = m.members.get(family).filter((module) => module.layer !== null)
    if (!members.length) return
    const points = members.map((module) => [x(m.layerAt.get(module.layer)), y(module[c.measure] ?? 0)])
    const colour = CURVES[f % CURVES.length], dash = DASHES[f % DASHES.length]
    sheet.path(points, colour, { thick: live && chosen?.family === family ? 3 : 1.6, dash })
    if (points.length === 1) sheet.dot(...points[0], 3, colour)
    tips.push({ family, colour, dash, y: points.at(-1)[1] })
  })
  // names at the ends of the curves, pushed apart where they would overlap
  tips.sort((a, b) => a.y - b.y)
  let last = top - 16
  tips.forEach((tip, n) => {
    last = tip.at = Math.min(Math.max(tip.y + 4, last + 13), bottom - (tips.length - 1 - n) * 13)
    sheet.path([[end + 4, tip.at - 4], [end + 22, tip.at - 4]], tip.colour, { thick: 2, dash: tip.dash })
    sheet.text(end + 26, tip.at, tip.family.length > 15 ? tip.family.slice(0, 14) + "…" : tip.family, ink.text)
  })
  const every = Math.ceil(layers.length / 12)
  const underneath = (place, from, to) => {
    layers.forEach((layer, at) => {
      if (at % every === 0) sheet.text(place(at), bottom + 16, layer, ink.text, { align: "center" })
    })
    sheet.text((from + to) / 2, bottom + 33, "layer", ink.text, { align: "center" })
  }
  underneath(x, left, end)
  if (live && chosen && chosen.layer !== null)
    sheet.dot(x(m.layerAt.get(chosen.layer)), y(chosen[c.measure] ?? 0), 5, ink.accent)

  const from = middle + gap - 20
  const shares = m.measured?.layerShares[c.family]
  const who = c.family || "all families"
  sheet.text(from, box.y + 12, `where the energy of ${who} sits`, ink.text, { bold: true })
  const width = (right - from) / Math.max(layers.length, 1)
  const column = (at) => from + (at + 0.5) * width
  if (shares?.layers.length) {
    const part = scaleOf(0, 1, false, top + 14, bottom)
    legend(sheet, ink, from - 3, top + 2, KEY)
    axisLeft(sheet, ink, from, right, part, [0, 0.25, 0.5, 0.75, 1], (value) => `${100 * value} %`)
    shares.layers.forEach((layer, n) => {
      const at = m.layerAt.get(layer), bar = Math.max(width * 0.86, 1), here = column(at) - bar / 2
      let below = 0
      KINDS.forEach(([, colour], kind) => {
        const share = shares.shares[n][kind], base = part(below), tip = part(below + share)
        sheet.rect(here, tip, bar, base - tip, colour, kind === 1 ? PALE : 1)
        if (kind === 2) for (let stripe = tip + 2; stripe < base - 1; stripe += 5) sheet.rect(here, stripe, bar, 1.4, ink.back)
        below += share
      })
      if (live && chosen?.layer === layer) sheet.frame(here - 1, part(1) - 1, bar + 2, bottom - part(1) + 2, ink.accent, 2)
    })
    underneath(column, from, right)
  } else sheet.text((from + right) / 2, (top + bottom) / 2, m.measured ? "no layer was measured here" : "needs a calibration: see above", ink.text, { align: "center" })
  return (px, py) => {
    if (py < top - 8 || py > bottom + 8) return null
    if (px >= from) {
      const at = Math.floor((px - from) / width)
      const module = m.members.get(c.family || chosen?.family)?.find((each) => each.layer === layers[at])
      return layers[at] === undefined ? null : { module, component: 0, lines: sharesTold(m, c, layers[at]) }
    }
    if (px > end + 8) return null
    const at = Math.max(0, Math.min(layers.length - 1, Math.round(((px - left - 8) / (end - left - 16)) * (layers.length - 1))))
    const near = m.modules.filter((module) => module.layer === layers[at])
    if (!near.length) return null
    const away = (module) => Math.abs(y(module[c.measure] ?? 0) - py)
    const module = near.reduce((best, each) => (away(each) < away(best) ? each : best))
    return { module, component: 0, lines: [module.label, `${measure} ${text(module[c.measure] ?? 0)} of ${module.rank}`] }
  }
}

function sharesTold(m, c, layer) {
  const found = m.measured?.layerShares[c.family]
  const n = found ? found.layers.indexOf(layer) : -1
  const head = `layer ${layer}, energy of ${c.family || "all families"}`
  return n < 0 ? [head, "not measured"] : [head, KINDS.map(([, , words], kind) => `${words} ${percent(found.shares[n][kind])}`).join(", ")]
}

const STABILITY = [
  ["halfMagnitude", "mean |g|, two halves", BLUE, []],
  ["halfSigned", "signed mean g, two halves", ORANGE, []],
  ["magnitude", "mean |g|, against all", BLUE, [2, 3]],
  ["signed", "signed mean g, against all", ORANGE, [2, 3]],
]

function drawStability(sheet, ink, box, m, c, live) {
  const budgets = m.measured.stability
  const left = box.x + 44, right = box.x + box.width - 10, top = box.y + 46, bottom = box.y + box.height - 38
  const values = budgets.flatMap((budget) => STABILITY.map(([key]) => budget[key])).filter((value) => value !== null)
  const low = Math.min(0, ...values.map((value) => Math.floor(value * 5) / 5))
  const y = scaleOf(low, 1, false, top, bottom)
  axisLeft(sheet, ink, left, right, y, [-1, -0.8, -0.6, -0.4, -0.2, 0, 0.2, 0.4, 0.6, 0.8, 1].filter((mark) => mark >= low - 1e-9))
  sheet.rect(left, y(0.5), right - left, y(low) - y(0.5), ink.soft, 0.1)
  sheet.text(right - 4, y(0.5) + 14, "weak", ink.text, { align: "right" })
  const x = (n) => left + ((n + 0.5) / budgets.length) * (right - left)
  STABILITY.forEach(([key, words, colour, dash], s) => {
    const points = budgets.map((budget, n) => [x(n), budget[key]]).filter(([, value]) => value !== null).map(([at, value]) => [at, y(value)])
    if (points.length > 1) sheet.path(points, colour, { thick: 2, dash })
    for (const [at, up] of points) s % 2 ? sheet.rect(at - 4, up - 4, 8, 8, colour) : sheet.dot(at, up, 4.5, colour)
    const lx = left + (s % 2) * 0.5 * (right - left), ly = box.y + (s < 2 ? 12 : 30)
    sheet.path([[lx, ly - 4], [lx + 22, ly - 4]], colour, { thick: 2, dash })
    s % 2 ? sheet.rect(lx + 7, ly - 8, 8, 8, colour) : sheet.dot(lx + 11, ly - 4, 4.5, colour)
    sheet.text(lx + 28, ly, words, ink.text)
  })
  budgets.forEach((budget, n) => sheet.text(x(n), bottom + 16, budget.examples, ink.text, { align: "center" }))
  sheet.text((left + right) / 2, bottom + 33, "calibration examples; vertical: mean rank correlation inside a module", ink.text, { align: "center" })
  return (px, py) => {
    const n = Math.floor(((px - left) / (right - left)) * budgets.length), budget = budgets[n]
    if (!budget || py < top - 8 || py > bottom + 8) return null
    return { module: null, lines: [`${budget.examples} examples, ${budget.modules} modules`, ...STABILITY.map(([key, words]) => `${words}: ${budget[key] === null ? "unknown" : small(budget[key])}`)] }
  }
}
