// Inside one component: rows coloured by the shares of their tokens, what it reads, what it writes. Texts come from
// files of any origin, so they are only ever set as text.
import { element, mounted, report, text } from "../../components/sheet.mjs"
import {
  depthOf, foldedOf, largestOf, meanTold, readingTold, rowTold, spaced, strongest, tokenTold, visible, weighed, writingTold,
} from "./words.mjs"

const STEPS = { ArrowLeft: -1, ArrowRight: 1 }

class Microscope {
  constructor(root) {
    this.part = (role) => root.querySelector(`[data-role="${role}"]`)
    this.root = root.querySelector(".inside")
  }

  connect() {}

  unmount() {}

  receive(data) {
    const began = performance.now()
    this.root.style.setProperty("--harms", data.colours.hurts)
    this.root.style.setProperty("--helps", data.colours.helps)
    this.part("told").textContent = meanTold(data)
    const off = this.part("off")
    off.hidden = data.off == null
    off.textContent = off.hidden ? "" : `The shares add up to what was measured but for ${text(100 * data.off)} % of the largest g: the calibration ran in another precision or on another machine.`
    for (const [role, sign] of [["harmed", 1], ["helped", -1]]) {
      const rows = data.rows.filter(({ g }) => sign * g > 0)
      this.part(role).replaceChildren(...(rows.length ? rows.map((row) => this.row(row)) : [element("p", { className: "note", textContent: "None." })]))
    }
    this.part("readout").textContent = ""
    this.part("reads").replaceChildren(...data.reads.map((reading) => readingRow(reading)))
    this.writes(data)
    requestAnimationFrame(() => report("inside", performance.now() - began))
  }

  row(row) {
    const words = element("div", { className: "text", tabIndex: 0 }), folded = foldedOf(row.tokens)
    words.setAttribute("role", "group")
    words.setAttribute("aria-label", `${rowTold(row)}. Arrow keys tell each token.`)
    words.addEventListener("pointerover", (e) => this.tell(row, Number(e.target.closest(".token")?.dataset.at ?? -1)))
    words.addEventListener("keydown", (e) => e.key in STEPS && this.step(e, row, words))
    words.addEventListener("blur", () => words.querySelector(".at")?.classList.remove("at"))
    const told = element("p", { className: "note" }, ...strongest(row.tokens).flatMap(([kind, list]) => [element("b", { textContent: `${kind}: ` }), `${list} `]))
    const head = element("p", { className: "count", textContent: `Row ${row.number} · g ${weighed(row.g)} ` })
    if (folded) {
      const button = element("button", { type: "button", textContent: `show ${folded} tokens before` })
      button.addEventListener("click", () => {
        fill(words, row, 0)
        button.remove()
        words.focus()
      })
      head.append(button)
    }
    fill(words, row, folded)
    return element("div", { className: "row" }, head, words, told)
  }

  // the token beside the one that was told last
  step(event, row, words) {
    const last = words.querySelector(".at"), spans = [...words.children]
    const next = spans[Math.min(Math.max(spans.indexOf(last) + STEPS[event.key], 0), spans.length - 1)]
    last?.classList.remove("at")
    next.classList.add("at")
    this.tell(row, Number(next.dataset.at))
    event.preventDefault()
  }

  tell(row, at) {
    if (at >= 0) this.part("readout").textContent = tokenTold(row.tokens[at], at + 1, row)
  }

  writes({ writes, noLens, directions }) {
    this.part("lens").hidden = !writes
    const none = this.part("no-lens")
    none.hidden = Boolean(writes)
    none.textContent = noLens
    for (const [at, role] of ["plus", "minus"].entries()) {
      if (!writes) continue
      this.part(`${role}-told`).textContent = writingTold(writes[at], directions)
      this.part(`${role}-told`).classList.toggle("random", !writes[at].beyond)
      this.part(role).replaceChildren(...writes[at].tokens.map((token) =>
        element("tr", {}, element("td", { className: "word", textContent: spaced(token.text) }), cell(weighed(token.logit)), cell(weighed(token.apart)))))
    }
  }
}

// the tokens of a row from one of them on
function fill(words, row, from) {
  const largest = largestOf(row.tokens)
  words.replaceChildren(...row.tokens.slice(from).map((token, i) => spanOf(token, largest, from + i)))
}

const cell = (words) => element("td", { textContent: words })

function spanOf(token, largest, at) {
  const { depth, mark } = depthOf(token.share, largest)
  const node = element("span", { className: `token ${mark} ${token.scored ? "scored" : ""}`, textContent: visible(token.text).replaceAll("⏎", "⏎\n") })
  node.dataset.at = at
  node.style.setProperty("--depth", `${depth}%`)
  node.style.setProperty("--colour", token.share > 0 ? "var(--harms)" : "var(--helps)")
  if (token.name) node.append(element("span", { className: "name", textContent: token.name }))
  return node
}

function readingRow({ row, value, before, token, after, ...verdict }) {
  const context = element("td", { className: "word" }, visible(before.join("")), element("mark", { textContent: visible(token) }), visible(after.join("")))
  const told = element("td", { className: `word ${verdict.beyond ? "" : "random"}`, textContent: readingTold(verdict) })
  return element("tr", {}, cell(weighed(value)), context, told, cell(String(row)))
}

export default mounted(Microscope)
