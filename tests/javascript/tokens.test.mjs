import assert from "node:assert/strict"
import test from "node:test"

import { countOf, visible } from "../../app/spectra/tokens.mjs"

test("breaks and tabs are seen, and still break", () => {
  assert.equal(visible("a\n\tb"), "a⏎\n⇥\tb")
  assert.equal(visible("<b>&"), "<b>&")
})

test("a row says how many of its tokens the loss counts", () => {
  assert.equal(countOf([{ scored: false }, { scored: true }, { scored: true }], 2, 128), "Row 2 of 128: 3 tokens, 2 scored")
})
