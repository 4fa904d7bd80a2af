// What the look inside a component says of its numbers.
import { text } from "../../components/sheet.mjs"

export const weighed = (value) => (value == null ? "not finite" : (value < 0 ? "−" : "+") + text(Math.abs(value)))

// what a person could not see otherwise
export const visible = (words) => words.replaceAll("\n", "⏎").replaceAll("\t", "⇥")

// a token of the vocabulary, whose spaces count
export const spaced = (words) => visible(words).replaceAll(" ", "␣")

export const named = (token) => (token.text ? `“${visible(token.text)}”` : token.name)

const STRONG = 3 // tokens that a row names in words
const SLIGHT = 0.01 // of a row's largest share: less is not told of
const LEAD = 12 // tokens before the first that is told of

// the largest share of a row, which its colours are relative to; 0 for a row without any
export const largestOf = (tokens) => tokens.reduce((most, { share }) => Math.max(most, Math.abs(share ?? 0)), 0)

// how deep a token is coloured: percent of the colour, with a mark where a tenth of the deepest is passed
export function depthOf(share, largest) {
  if (share == null || !largest) return { depth: 0, mark: "" }
  const part = Math.abs(share) / largest
  return { depth: Math.round(60 * part), mark: part < 0.1 ? "" : share > 0 ? "harms" : "helps" }
}

// the tokens that weigh most for or against, in words: what colours say to those who see them
export function strongest(tokens) {
  const least = SLIGHT * largestOf(tokens)
  const told = (sign) => {
    const found = tokens.filter(({ share }) => sign * (share ?? 0) > least).sort((a, b) => sign * (b.share - a.share))
    return found.slice(0, STRONG).map((token) => `${named(token)} ${weighed(token.share)}`).join(", ")
  }
  return [["harm", told(1)], ["help", told(-1)]].filter(([, words]) => words)
}

// how many tokens of a row come so long before the first that weighs anything that they are folded away
export function foldedOf(tokens) {
  const least = SLIGHT * largestOf(tokens), first = tokens.findIndex(({ share }) => Math.abs(share ?? 0) > least)
  return Math.max(0, first - LEAD)
}

export function rowTold(row) {
  const parts = strongest(row.tokens).map(([kind, words]) => `tokens that ${kind}: ${words}`)
  return [`Row ${row.number}, g ${weighed(row.g)}`, ...parts].join("; ")
}

export function tokenTold(token, number, row) {
  const read = token.reads == null ? "does not enter the module" : `vᵀx ${weighed(token.reads)}`
  return `Row ${row.number}, token ${number} ${named(token)}: share ${weighed(token.share)} of g ${weighed(row.g)}, ${read}`
}

// what the rows below are to be held against: whether the component's mean is sure, and its direction determined
export function meanTold({ component, told: { mean, error, examples }, errors, determined }) {
  const noise = mean == null || error == null || Math.abs(mean) <= errors * error
  const raises = mean > 0
  return [
    `Component ${component}: mean g ${weighed(mean)} ± ${error == null ? "unknown" : text(error)} over ${examples} examples, in nats per unit of σ.`,
    noise
      ? "That is within noise: what follows explains single rows, not the component’s mean."
      : `It ${raises ? "hurts" : "helps"}: raising its σ ${raises ? "raises" : "lowers"} the loss.`,
    determined ? "" : "Its σ is (nearly) degenerate: any rotation among equal σ gives the same update, so that this direction is one of many, and only sums over the equal ones are determined.",
  ].filter(Boolean).join(" ")
}

const percent = (share) => `${Math.floor(100 * share)} %`

export const readingTold = ({ share, beyond }) =>
  beyond ? `beyond random: ${percent(share)} of random directions read less` : `not beyond random: ${percent(share)} read less`

export function writingTold({ share, beyond, tokens }, directions) {
  const top = tokens[0] ? text(tokens[0].logit) : "–"
  return beyond
    ? `Top logit ${top}, larger than that of ${percent(share)} of ${directions} random directions.`
    : `Top logit ${top}, larger than that of ${percent(share)} of ${directions} random directions: a random direction writes as much, so this list means nothing.`
}
