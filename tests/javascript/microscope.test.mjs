import assert from "node:assert/strict"
import test from "node:test"

import {
  depthOf, foldedOf, largestOf, meanTold, named, readingTold, rowTold, spaced, strongest, tokenTold, weighed, writingTold,
} from "../../app/spectra/microscope/words.mjs"

const token = (text, share, reads = 1, name = "") => ({ text, share, reads, name, scored: false })
const ROW = {
  number: 7,
  g: 0.25,
  tokens: [...Array.from({ length: 20 }, () => token("x", 1e-6)), token("a\n", 0.3), token("<b>", -0.06, -2), token("c", 0.01, null)],
}

test("the depth of a colour is the token's part of the row's largest share, with a mark for whoever sees no colours", () => {
  const largest = largestOf(ROW.tokens)
  assert.equal(largest, 0.3)
  assert.deepEqual(depthOf(0.3, largest), { depth: 60, mark: "harms" })
  assert.deepEqual(depthOf(-0.06, largest), { depth: 12, mark: "helps" })
  assert.deepEqual(depthOf(0.01, largest), { depth: 2, mark: "" })
  assert.deepEqual(depthOf(0, 0), { depth: 0, mark: "" })
  assert.deepEqual(depthOf(null, largest), { depth: 0, mark: "" })
  assert.equal(largestOf([token("x", null)]), 0)
})

test("a row is told in words, as its colours tell it", () => {
  assert.deepEqual(strongest(ROW.tokens), [["harm", "“a⏎” +0.3, “c” +0.01"], ["help", "“<b>” −0.06"]])
  assert.equal(rowTold(ROW), "Row 7, g +0.25; tokens that harm: “a⏎” +0.3, “c” +0.01; tokens that help: “<b>” −0.06")
  assert.equal(tokenTold(ROW.tokens[21], 22, ROW), "Row 7, token 22 “<b>”: share −0.06 of g +0.25, vᵀx −2")
  assert.match(tokenTold(ROW.tokens[22], 23, ROW), /does not enter the module/)
})

test("a long beginning without weight is folded away, up to some tokens before the first that has any", () => {
  assert.equal(foldedOf(ROW.tokens), 8)
  assert.equal(foldedOf(ROW.tokens.slice(18)), 0)
  assert.equal(foldedOf([token("x", 0)]), 0)
})

test("what is within noise, or not determined, is said before anything is shown", () => {
  const told = (mean, error, determined = true) => meanTold({ component: 3, told: { mean, error, examples: 40 }, errors: 2, determined })
  assert.match(told(0.5, 0.1), /Component 3: mean g \+0\.5 ± 0\.1 over 40 examples.*It hurts: raising its σ raises/)
  assert.match(told(-0.5, 0.1), /It helps: raising its σ lowers/)
  assert.match(told(0.2, 0.1), /within noise/)
  assert.match(told(0.5, null), /within noise/)
  assert.doesNotMatch(told(0.5, 0.1), /degenerate/)
  assert.match(told(0.5, 0.1, false), /degenerate/)
})

test("a list that a random direction would give says that it means nothing", () => {
  const tokens = [{ text: "a", logit: 46.04, apart: 8 }]
  assert.equal(writingTold({ share: 0.995, beyond: true, tokens }, 200), "Top logit 46.04, larger than that of 99 % of 200 random directions.")
  assert.match(writingTold({ share: 0.5, beyond: false, tokens }, 200), /50 % .* means nothing/)
  assert.equal(readingTold({ share: 0.96, beyond: true }), "beyond random: 96 % of random directions read less")
  assert.equal(readingTold({ share: 0.84, beyond: false }), "not beyond random: 84 % read less")
})

test("tokens show what a person could not see", () => {
  assert.equal(spaced(" on\t"), "␣on⇥")
  assert.equal(named(token("", 0, 0, "start")), "start")
  assert.equal(weighed(null), "not finite")
  assert.equal(weighed(-0.12345), "−0.1235")
})
