// Rows as tokens: the prompt grey, what the loss counts marked, starts and ends named. Texts come from files of any
// origin, so they are only ever set as text.
import { mounted } from "../components/sheet.mjs"

// what a person could not see otherwise; the break itself stays, so that text reads as it was written
export const visible = (text) => text.replaceAll("\n", "⏎\n").replaceAll("\t", "⇥\t")

export const countOf = (row, number, total) => {
  const scored = row.filter((token) => token.scored).length
  return `Row ${number} of ${total}: ${row.length} tokens, ${scored} scored`
}

const made = (kind, className, text = "") => {
  const node = document.createElement(kind)
  node.className = className
  node.textContent = text
  return node
}

class Tokens {
  constructor(root) {
    this.rows = root.querySelector('[data-role="rows"]')
  }

  connect() {}

  unmount() {}

  receive({ rows, total }) {
    this.rows.replaceChildren(...rows.map((row, n) => this.row(row, n + 1, total)))
  }

  row(tokens, number, total) {
    const block = made("div", "row"), text = made("div", "text")
    for (const token of tokens) {
      const node = made("span", `token ${token.scored ? "scored" : "prompt"}`, visible(token.text))
      node.title = `id ${token.id}${token.scored ? ", scored" : ""}`
      if (token.name) node.append(made("span", "name", token.name))
      text.append(node)
    }
    block.append(made("p", "count", countOf(tokens, number, total)), text)
    return block
  }
}

export default mounted(Tokens)
