import js from "@eslint/js"
import globals from "globals"

const rules = {
  ...js.configs.recommended.rules,
  eqeqeq: ["error", "always", { null: "ignore" }],
  "max-lines": ["error", 300],
  "max-params": ["error", 7], // sheet, ink and the four sides of a place are six
  "no-shadow": "error",
  "no-unused-expressions": ["error", { allowShortCircuit: true }],
  "no-use-before-define": ["error", { functions: false, classes: false, variables: false }],
  "no-var": "error",
  "object-shorthand": "error",
  "prefer-const": ["error", { destructuring: "all" }],
}

export default [
  { linterOptions: { reportUnusedDisableDirectives: "error" }, rules },
  { files: ["app/**/*.mjs"], languageOptions: { globals: globals.browser } },
  { files: ["tests/**/*.mjs"], languageOptions: { globals: globals.node } },
]
