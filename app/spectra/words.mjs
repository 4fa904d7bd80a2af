// What the Spectra page says of its numbers and of what it shows.
import { text } from "../components/sheet.mjs"
import { isMeasured, isSeen, standingAt } from "./model.mjs"
import { lacks, lacksInputs, moduleOf } from "./state.mjs"

export const PER_SIGMA = "nats per unit of σ"
const WHAT = {
  sigma: "Singular values σ", energy: "Cumulative Frobenius energy Σσ²", share: "Share of Frobenius energy σ²",
  functional: "Share of functional energy σ²q", mean: "Signed mean g", magnitude: "Mean |g|",
}
export const LISTS = [["harmful", "most harmful"], ["wasteful", "most wasteful"], ["helpful", "most helpful"]]

export const labelOf = (pairs, name) => pairs.find(([key]) => key === name)[1]
export const percent = (share, digits = 1) => `${(100 * share).toFixed(digits)} %`
export const small = (value) => (value < 0 ? "−" : "") + text(Math.abs(value))
export const plus = (value) => (value < 0 ? "−" : "+") + text(Math.abs(value))
const upper = (words) => words[0].toUpperCase() + words.slice(1)

// everything known of a component, for tips and for screen readers
export function told(m, module, k) {
  const i = module.start + k, standing = standingAt(m, i)
  const lines = [
    `${module.label} · component ${k} of ${module.rank}`,
    `σ ${text(m.sigma[i])}, ${percent(m.share[i])} of the module's energy Σσ², ${percent(m.energy[i])} up to here`,
  ]
  if (isSeen(m, i)) lines.push(`${percent(m.functional[i])} of the module's functional energy Σσ²q`)
  if (isMeasured(m, i)) {
    lines.push(
      `mean g ${plus(m.mean[i])} ± ${text(m.error[i])}: ${standing === m.palette.unmeasured ? "no standing" : standing.words}`,
      `mean |g| ${text(m.magnitude[i])} ± ${text(m.magnitudeError[i])}, sign agreement ${percent(m.agreement[i], 0)}`,
    )
  } else if (m.measured) lines.push("not measured")
  if (m.degenerate[i]) lines.push("its σ is (nearly) degenerate: only the sum of g over the equal ones is determined")
  return lines
}

// how the energy of a layer divides: what is told of, and the shares
export function sharesTold(m, c, layer) {
  const found = m.measured?.layerShares[c.family]
  const n = found ? found.layers.indexOf(layer) : -1
  const head = `layer ${layer}, energy of ${c.family || "all families"}`
  return n < 0 ? [head, "not measured"] : [head, m.palette.standings.map(({ words }, kind) => `${words} ${percent(found.shares[n][kind])}`).join(", ")]
}

// why the view cannot be shown, or lacks a part; else an empty text
export function needOf(state) {
  const { m, choice: { view, show } } = state
  if (!m.modules.length) return "This adapter has no modules."
  if (lacksInputs(state))
    return `Not known yet: what the directions do to what enters them, σ²q. ${m.measured ? "This calibration is of an earlier version: press “Calibrate again” above and measure." : "This needs a calibration: open “Calibrate” above, choose rows and press Measure."}`
  if (m.measured) return view === "stability" && !m.measured.stability.length ? m.measured.verdicts[0] : ""
  const what = {
    lists: "which components hurt, waste energy or help",
    stability: "how stable rankings are",
    one: "which components raise or lower the loss",
    depth: "where energy helps or hurts",
  }[view] ?? (lacks(state) ? labelOf(m.data.labels.show, show) : "")
  return what && `Not known yet: ${what}. This needs a calibration: open “Calibrate” above, choose rows and press Measure. σ, energy and ranks need none.`
}

export function titleOf(state) {
  const { m, choice: { view, show, measure, list, module } } = state
  const of = m.measured ? `${m.data.source}; ${m.measured.examples} calibration examples` : m.data.source
  const sure = m.measured ? `; a sign counts from ${m.data.errors} standard errors` : ""
  if (view === "all") return [`${WHAT[show]} of every component, by family and layer`, of + sure]
  if (view === "one") return [`Spectrum of ${moduleOf(state)?.label ?? ""}`, `${module}; ${of}${sure}`]
  if (view === "depth") return [`${upper(labelOf(m.data.labels.measure, measure))} over depth, and where the energy sits`, of + sure]
  if (view === "stability") return ["How stable the rankings of components are", of]
  return [`Components: ${labelOf(LISTS, list)}`, luckOf(m, list)]
}

function luckOf({ data, measured }, list) {
  if (!measured) return ""
  const luck = `${measured.named} of ${measured.counted.toLocaleString("en")} components were named helpful or harmful; luck alone would name about ${Math.round(measured.byLuck)} at ${data.errors} standard errors. The first ${measured.listed} are listed.`
  return list === "wasteful" ? `Most energy without a sure effect on the loss. ${luck}` : luck
}

const known = (value) => (value == null ? "–" : text(value))

// the numbers beside one module: name and value, or the head of a group
export function factRows(m, module, k) {
  const i = module.start + k
  const rows = [
    [`Component ${k}`],
    ["σ", text(m.sigma[i])],
    ["share of energy Σσ²", percent(m.share[i])],
    ["energy up to here", percent(m.energy[i])],
    ["share of Σσ²q", isSeen(m, i) ? percent(m.functional[i]) : "not measured"],
  ]
  if (isMeasured(m, i))
    rows.push(
      ["mean g", plus(m.mean[i])],
      ["± s.e.", text(m.error[i])],
      ["mean |g|", text(m.magnitude[i])],
      ["± s.e.", text(m.magnitudeError[i])],
      ["sign agreement", percent(m.agreement[i], 0)],
      ["standing", standingAt(m, i).name],
    )
  if (m.degenerate[i]) rows.push(["σ degenerate", "see below"])
  rows.push(
    [`Module, rank ${module.rank}`],
    ["effective rank", module.effective === null ? "–" : text(module.effective)],
    ["stable rank", module.stable === null ? "–" : text(module.stable)],
    ["k at 90 % energy", module.k90],
    ["r₂", known(module.nuclear)],
    ["functional part. ratio", known(module.functional)],
    ["full-moment part. ratio", known(module.full)],
  )
  if (module.shares) m.palette.standings.forEach(({ name }, kind) => rows.push([`energy ${name}`, percent(module.shares[kind])]))
  return rows
}

// what is chosen, in words
export function readoutOf(state) {
  const { m, choice: c } = state, module = moduleOf(state)
  if (!module || c.view === "lists") return ""
  if (c.view === "stability") return m.measured ? m.measured.verdicts.join("\n") : ""
  if (c.view !== "depth") return told(m, module, c.component).join("; ") + "."
  const [head, words] = module.layer === null || !m.measured ? [] : sharesTold(m, c, module.layer)
  return `${module.label}: ${labelOf(m.data.labels.measure, c.measure)} ${known(module[c.measure])} of ${module.rank}.` + (head ? ` ${upper(head)}: ${words}.` : "")
}
