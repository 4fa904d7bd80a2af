// What the board says of its state in words and numbers.
import { signed, text } from "../components/sheet.mjs"
import { moduleOf } from "./state.mjs"

// the numbers above the figures: name, value, remark; what the calibration rows promise stands small beside what is
// expected of others
export function numberRows(data, numbers, expectation) {
  return [
    ["Expected Δ loss, held-out rows", headline(numbers, expectation), remark(numbers, expectation)],
    ["Edited scalars", data.scalars.toLocaleString("en"), `${data.modules.length} modules`],
    ["Raised", numbers.raised, ""],
    ["Lowered", numbers.lowered, `${numbers.zeroed} zeroed`],
    ["Nuclear norm moved", `${(100 * numbers.nuclearNormMoved).toFixed(1)}%`, `Σσ′/Σσ ${numbers.nuclearNormRatio.toFixed(3)}`],
  ]
}

function headline({ predicted }, expectation) {
  if (predicted === null) return "not measured"
  return expectation?.mean == null ? "not known" : signed(expectation.mean) + plusMinus(expectation.error)
}

function remark({ predicted, standardError }, expectation) {
  if (predicted === null) return "calibrate on Spectra"
  if (predicted === 0) return "nothing changes"
  const first = `first-order, calibration rows ${signed(predicted)}${plusMinus(standardError)}`
  return expectation?.low == null ? first : `${band(expectation)}; ${first}`
}

function band({ low, high }) {
  const noise = low <= 0 && high >= 0 ? ", within noise" : ""
  return `95 % ${signed(low)} … ${signed(high)}${noise}`
}

const plusMinus = (error) => (error == null ? "" : ` ± ${error.toFixed(4)}`)

// where what is expected may not be trusted; empty where it may
export function doubtsOf(expectation) {
  const told = (expectation?.doubts ?? []).join(". ")
  return told && `Expected on held-out rows: ${told}.`
}

// what stands under the bars, and what a screen reader is told of them
export function handWords(state, gains) {
  const module = moduleOf(state), chosen = [...state.picked].sort((a, b) => a - b)
  const first = chosen[0] ?? 0, gain = gains[module.start + first].toFixed(3)
  return {
    picked: chosen.length === 1 ? `component ${first}` : `${chosen.length} components`,
    gain: chosen.length === 1 ? gain : "",
    label: `Singular values of ${module.name} before and after. ` +
      `Component ${first}: σ ${text(state.sigma[module.start + first])}, gain ${gain}. ` +
      "Arrow keys choose and change, Delete zeroes, L locks, Backspace resets.",
  }
}

export function tipLines(state, gains, module, k) {
  const i = module.start + k, sigma = state.sigma[i]
  const lines = [
    `${module.label} · component ${k}`,
    `σ ${text(sigma)} → σ′ ${text(sigma * gains[i])}  (gain ${gains[i].toFixed(3)})`,
  ]
  if (state.mean.length) lines.push(`mean g ${signed(state.mean[i])} ± ${state.error[i].toFixed(4)}`)
  const manual = state.data.manual[module.name]?.[k]
  if (manual !== undefined) lines.push(`by hand: ${text(manual)}`)
  return lines
}
