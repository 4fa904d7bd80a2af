// The figures over depth and over calibration budgets, painted like those of spectra.
import { text, ticks } from "../components/sheet.mjs"
import { axisLeft, clipped, legend, scaleOf } from "./marks.mjs"
import { labelOf, sharesTold, small } from "./words.mjs"

const LINE = 13 // px between the names of two curves

// left a curve for each family, right how the energy of each layer divides
export function drawDepth(sheet, ink, box, m, c, live) {
  const chosen = live ? m.byName.get(c.module) : undefined
  const names = Math.min(128, 32 + 6.2 * Math.max(4, ...m.data.families.map((family) => family.length)))
  const top = box.y + 32, bottom = box.y + box.height - 38, middle = box.x + Math.round(box.width * 0.52)
  const curves = { left: box.x + 44, right: middle - names, top, bottom, head: box.y + 12 }
  const shares = { left: middle + 54, right: box.x + box.width - 6, top, bottom, head: box.y + 12 }
  const overCurves = drawCurves(sheet, ink, curves, m, c, chosen)
  const overShares = drawShares(sheet, ink, shares, m, c, chosen)
  return (x, y) => {
    if (y < top - 8 || y > bottom + 8) return null
    if (x >= shares.left) return overShares(x, m.byName.get(c.module))
    return x > curves.right + 8 ? null : overCurves(x, y)
  }
}

function drawCurves(sheet, ink, { left, right, top, bottom, head }, m, c, chosen) {
  const { layers } = m, measure = labelOf(m.data.labels.measure, c.measure), value = (module) => module[c.measure] ?? 0
  // a module whose number is not known has no point
  const inLayers = m.modules.filter((module) => module.layer !== null && module[c.measure] != null)
  const most = Math.max(1, ...inLayers.map(value))
  const x = (at) => left + 8 + (at / Math.max(layers.length - 1, 1)) * (right - left - 16)
  const y = scaleOf(0, most * 1.04, false, top, bottom)
  axisLeft(sheet, ink, left, right, y, ticks(most))
  sheet.text(left, head, `${measure} of each module`, ink.text, { bold: true })
  const place = (module) => [x(m.layerAt.get(module.layer)), y(value(module))]
  const ends = m.data.families.flatMap((family, f) => {
    const points = inLayers.filter((module) => module.family === family).map(place)
    if (!points.length) return []
    const { curves, dashes } = m.palette, colour = curves[f % curves.length], dash = dashes[f % dashes.length]
    sheet.path(points, colour, { thick: chosen?.family === family ? 3 : 1.6, dash })
    if (points.length === 1) sheet.dot(...points[0], 3, colour)
    return [{ family, colour, dash, y: points.at(-1)[1] }]
  })
  drawNames(sheet, ink, ends, right, top, bottom)
  drawLayers(sheet, ink, layers, x, left, right, bottom)
  if (inLayers.includes(chosen)) sheet.dot(...place(chosen), 5, ink.accent)
  return (px, py) => {
    const at = Math.max(0, Math.min(layers.length - 1, Math.round(((px - left - 8) / (right - left - 16)) * (layers.length - 1))))
    const near = inLayers.filter((module) => module.layer === layers[at])
    if (!near.length) return null
    const away = (module) => Math.abs(y(value(module)) - py)
    const module = near.reduce((best, each) => (away(each) < away(best) ? each : best))
    return { module, component: 0, lines: [module.label, `${measure} ${text(value(module))} of ${module.rank}`] }
  }
}

// names at the ends of the curves, pushed apart where they would overlap
function drawNames(sheet, ink, ends, x, top, bottom) {
  ends.sort((a, b) => a.y - b.y)
  let last = top - 16
  ends.forEach(({ family, colour, dash, y }, n) => {
    last = Math.min(Math.max(y + 4, last + LINE), bottom - (ends.length - 1 - n) * LINE)
    sheet.path([[x + 4, last - 4], [x + 22, last - 4]], colour, { thick: 2, dash })
    sheet.text(x + 26, last, clipped(family), ink.text)
  })
}

function drawLayers(sheet, ink, layers, place, left, right, bottom) {
  const every = Math.ceil(layers.length / 12)
  layers.forEach((layer, at) => {
    if (at % every === 0) sheet.text(place(at), bottom + 16, layer, ink.text, { align: "center" })
  })
  sheet.text((left + right) / 2, bottom + 33, "layer", ink.text, { align: "center" })
}

function drawShares(sheet, ink, { left, right, top, bottom, head }, m, c, chosen) {
  const { layers } = m, found = m.measured?.layerShares[c.family], width = (right - left) / Math.max(layers.length, 1)
  sheet.text(left, head, `where the energy of ${c.family || "all families"} sits`, ink.text, { bold: true })
  if (found?.layers.length) {
    const part = scaleOf(0, 1, false, top + 14, bottom), middle = (at) => left + (at + 0.5) * width
    const bar = Math.max(width * 0.86, 1)
    legend(sheet, ink, { ...m, gaps: false }, left - 3, top + 2)
    axisLeft(sheet, ink, left, right, part, [0, 0.25, 0.5, 0.75, 1], (value) => `${100 * value} %`)
    found.layers.forEach((layer, n) => {
      const x = middle(m.layerAt.get(layer)) - bar / 2
      drawStack(sheet, ink, m.palette.standings, found.shares[n], x, bar, part)
      if (chosen?.layer === layer) sheet.frame(x - 1, part(1) - 1, bar + 2, bottom - part(1) + 2, ink.accent, 2)
    })
    drawLayers(sheet, ink, layers, middle, left, right, bottom)
  } else sheet.text((left + right) / 2, (top + bottom) / 2, m.measured ? "no layer was measured here" : "needs a calibration: see above", ink.text, { align: "center" })
  return (px, module) => {
    const layer = layers[Math.floor((px - left) / width)]
    if (layer === undefined) return null
    const there = m.members.get(c.family || module?.family)?.find((each) => each.layer === layer)
    return { module: there, component: 0, lines: sharesTold(m, c, layer) }
  }
}

// the shares of one layer upon each other, in the order of the standings
function drawStack(sheet, ink, standings, shares, x, width, part) {
  let below = 0
  standings.forEach(({ colour, opacity, striped }, kind) => {
    const base = part(below), tip = part(below + shares[kind])
    sheet.rect(x, tip, width, base - tip, colour, opacity)
    if (striped) for (let stripe = tip + 2; stripe < base - 1; stripe += 5) sheet.rect(x, stripe, width, 1.4, ink.back)
    below += shares[kind]
  })
}

// how alike rankings are at growing calibration budgets
export function drawStability(sheet, ink, box, m) {
  const { stability: budgets } = m.measured
  const curves = m.measured.curves.map((curve, s) => ({ ...curve, ...m.palette.rankings[s % m.palette.rankings.length] }))
  const left = box.x + 44, right = box.x + box.width - 10, top = box.y + 46, bottom = box.y + box.height - 38
  const known = curves.flatMap(({ values }) => values).filter((value) => value !== null)
  const low = Math.min(0, ...known.map((value) => Math.floor(value * 5) / 5))
  const y = scaleOf(low, 1, false, top, bottom), x = (n) => left + ((n + 0.5) / budgets.length) * (right - left)
  axisLeft(sheet, ink, left, right, y, [-1, -0.8, -0.6, -0.4, -0.2, 0, 0.2, 0.4, 0.6, 0.8, 1].filter((mark) => mark >= low - 1e-9))
  sheet.rect(left, y(0.5), right - left, y(low) - y(0.5), ink.soft, 0.1)
  sheet.text(right - 4, y(0.5) + 14, "weak", ink.text, { align: "right" })
  curves.forEach((curve, s) => {
    const points = curve.values.map((value, n) => [x(n), value]).filter(([, value]) => value !== null).map(([at, value]) => [at, y(value)])
    if (points.length > 1) sheet.path(points, curve.colour, { thick: 2, dash: curve.dash })
    for (const point of points) drawMark(sheet, s, point, curve.colour)
    drawKey(sheet, ink, s, curve, left + (s % 2) * 0.5 * (right - left), box.y + (s < 2 ? 12 : 30))
  })
  budgets.forEach((budget, n) => sheet.text(x(n), bottom + 16, budget.examples, ink.text, { align: "center" }))
  sheet.text((left + right) / 2, bottom + 33, "calibration examples; vertical: mean rank correlation inside a module", ink.text, { align: "center" })
  return (px, py) => {
    const n = Math.floor(((px - left) / (right - left)) * budgets.length), budget = budgets[n]
    if (!budget || py < top - 8 || py > bottom + 8) return null
    const told = curves.map(({ words, values }) => `${words}: ${values[n] === null ? "unknown" : small(values[n])}`)
    return { module: null, lines: [`${budget.examples} examples, ${budget.modules} modules`, ...told] }
  }
}

// every other curve has squares
function drawMark(sheet, s, [x, y], colour) {
  if (s % 2) sheet.rect(x - 4, y - 4, 8, 8, colour)
  else sheet.dot(x, y, 4.5, colour)
}

function drawKey(sheet, ink, s, { words, colour, dash }, x, y) {
  sheet.path([[x, y - 4], [x + 22, y - 4]], colour, { thick: 2, dash })
  drawMark(sheet, s, [x + 11, y - 4], colour)
  sheet.text(x + 28, y, words, ink.text)
}
