// Prints the test files that run inside the process of the test, for `npm run coverage`: what a real Haraka runs from its
// own install cannot be mapped back to our files, so the e2e tests and the demo are left out.
import { readdirSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const folder = join(dirname(dirname(fileURLToPath(import.meta.url))), 'dist', 'test')
const files = readdirSync(folder).filter(
  (file) => file.endsWith('.test.js') && !/\.e2e\.test\.js$|^(demo|lint)\.test\.js$/.test(file),
)
console.log(files.map((file) => join('dist', 'test', file)).join(' '))
