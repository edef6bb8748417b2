// How `npm test` tells of its tests: a line a file as it ends; at the end each failure with its message, and then the
// counts. None of node's own reporters ends with both: spec lists the failures behind the counts, tap prints thousands of
// lines behind a failure, dot counts nothing, and of a long log often only the end is kept.
import { relative, resolve } from 'node:path'

/** Lines of a message, and of what a file that failed as a whole has printed last. */
const MOST_LINES = 40

const short = (text) => {
  const lines = `${text}`.trimEnd().split('\n')
  return lines.length > MOST_LINES ? [...lines.slice(0, MOST_LINES), '...'] : lines
}
const indented = (lines) => lines.map((line) => `    ${line}\n`).join('')
const nameOf = (file) => relative(process.cwd(), file)
/** Of a file as a whole. */
const isFile = ({ name, file, nesting }) => nesting === 0 && resolve(name) === file

/** What went wrong, and where in our files. */
function explain({ failureType, cause, message }) {
  // Told where it failed.
  if (failureType === 'cancelledByParent') return []
  const error = cause instanceof Error ? cause : undefined
  const where = error?.stack?.split('\n').filter((line) => /^\s+at .*dist/.test(line)) ?? []
  const type = ['testCodeFailure', 'subtestsFailed'].includes(failureType) ? '' : `${failureType}: `
  return [...short(`${type}${error?.message ?? cause ?? message}`), ...where.slice(0, 4)]
}

export default async function* report(events) {
  const failures = []
  const counts = []
  const printed = new Map()
  const path = []
  for await (const { type, data } of events) {
    if (type === 'test:stderr' || type === 'test:stdout') {
      printed.set(data.file, `${printed.get(data.file) ?? ''}${data.message}`.slice(-4000))
    } else if (type === 'test:start') {
      path.length = data.nesting
      path.push(data.name)
    } else if (type === 'test:complete' && isFile(data)) {
      const { passed, duration_ms: ms } = data.details
      yield `${passed ? 'ok    ' : 'FAILED'} ${nameOf(data.file)} (${(ms / 1000).toFixed(1)} s)\n`
    } else if (type === 'test:fail' && data.details.error.failureType !== 'subtestsFailed') {
      const title = isFile(data) ? 'the whole file' : [...path.slice(0, data.nesting), data.name].join(' > ')
      failures.push({ title, data })
    } else if (type === 'test:diagnostic' && data.nesting === 0 && data.file === undefined) {
      counts.push(data.message)
    }
  }
  if (failures.length) yield '\nFailed:\n'
  for (const { title, data } of failures) {
    yield `\n${nameOf(data.file)}:${data.line} ${title}\n${indented(explain(data.details.error))}`
    if (isFile(data) && printed.has(data.file)) yield indented(short(printed.get(data.file).slice(-2000)))
  }
  yield `\n${counts.map((line) => `# ${line}\n`).join('')}`
}
