import assert from "node:assert/strict"
import test from "node:test"
import { gzipSync } from "node:zlib"

import { answersOf, asText, columnsOf, unpack } from "../../app/report/report.mjs"

const ANSWERS = {
  task: null,
  number: [1, 2, 5],
  question: ["who is <b>Ann</b>?", "two and two", "a third"],
  reference: ["aunt", "4", "c"],
  texts: [["aunt", "niece"], ["4"], ["b", "c", "d"]],
  unedited: "unedited",
  title: "Δ answer loss",
  variants: [
    { name: "edit", before: [0, 0, 0], after: [1, 0, 1], gained: [2], lost: [0], change: [0.25, null, -0.5] },
    { name: "random 0", before: [0, 0, 0], after: [0, 0, 2], gained: [], lost: [], change: [0, 0, 0] },
  ],
}
const numbers = (rows) => rows.map((row) => row.number)

test("what was packed is unpacked, signs of every language in it", async () => {
  const text = '{"a":"σ′ — 日本 \u2028 </script>"}'
  assert.equal(await unpack(gzipSync(Buffer.from(text)).toString("base64")), text)
})

test("the answers of a variant are shown by what became of them", () => {
  assert.deepEqual(numbers(answersOf(ANSWERS, 0, "all", "")), [1, 2, 5])
  assert.deepEqual(numbers(answersOf(ANSWERS, 0, "changed", "")), [1, 5])
  assert.deepEqual(numbers(answersOf(ANSWERS, 0, "gained", "")), [5])
  assert.deepEqual(numbers(answersOf(ANSWERS, 0, "lost", "")), [1])
  assert.deepEqual(numbers(answersOf(ANSWERS, 1, "changed", "")), [5])
  const [row] = answersOf(ANSWERS, 0, "gained", "")
  assert.deepEqual([row.before, row.after, row.mark, row.change], ["b", "c", "gained", -0.5])
})

test("a search asks for every word, in any text and in any case", () => {
  assert.deepEqual(numbers(answersOf(ANSWERS, 0, "all", "ANN niece")), [1])
  assert.deepEqual(numbers(answersOf(ANSWERS, 0, "all", "ann four")), [])
  assert.deepEqual(numbers(answersOf(ANSWERS, 0, "all", "  ")), [1, 2, 5])
})

test("the table has a column for what there is", () => {
  const columns = columnsOf(ANSWERS, 1)
  assert.deepEqual(columns.map(([title]) => title), [
    "example", "question", "reference", "unedited", "random 0", "Δ answer loss", "",
  ])
  const change = columnsOf(ANSWERS, 0).find(([title]) => title === "Δ answer loss")[1]
  assert.deepEqual(answersOf(ANSWERS, 0, "all", "").map(change), ["+0.2500", "–", "−0.5000"])
  const plain = { ...ANSWERS, title: null, task: ["t", "t", "u"] }
  assert.deepEqual(columnsOf(plain, 0).map(([title]) => title), [
    "example", "task", "question", "reference", "unedited", "edit", "",
  ])
})

test("a name with tags is text where plotly would read them", () => {
  assert.equal(asText("<a href='x'>&</a>"), "&lt;a href='x'&gt;&amp;&lt;/a&gt;")
})
