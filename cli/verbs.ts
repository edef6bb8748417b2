// The verbs of the command.
import { packageVersion } from '../core/paths'
import type { VerbUsage } from './arguments'
import type { Call } from './call'
import { check } from './check'
import { domain } from './domain'
import { install } from './install'
import { passwd } from './passwd'

/** Exit status: 0 fine, 1 the answer is bad; what throws could not run, 2. */
type Verb = VerbUsage & { run(call: Call): Promise<0 | 1> }

/** All of them, as the usage shows them. */
export const VERBS: Record<string, Verb> = {
  install: {
    words: [],
    does: 'puts missing ini files into config/relay-guard/ and shows the plugin lines',
    run: install,
  },
  check: {
    words: [],
    does: 'validates the ini files and config/plugins, and reaches each next hop',
    run: check,
  },
  passwd: { words: ['NAME'], does: 'makes a line for [users] in auth.ini', run: passwd },
  domain: {
    words: ['set|show|remove|list'],
    rest: '[NAME [KEY=VALUE ...]]',
    does: 'the domains in Redis: writes and reads them as the server does',
    run: domain,
  },
  help: { words: [], does: 'shows this', run: async ({ print }) => say(print, usage()) },
  version: { words: [], does: 'shows the version', run: async ({ print }) => say(print, packageVersion()) },
}

function say(print: Call['print'], text: string): 0 {
  print(text)
  return 0
}

/** How the command is called. */
export const usage = (): string => `usage: relay-guard [-c DIR] [--json] VERB

${Object.entries(VERBS)
  .map(([name, { words, does }]) => `  ${[name, ...words].join(' ').padEnd(27)} ${does}`)
  .join('\n')}

  -c DIR                      Haraka's directory (default: this one)
  --json                      for programs`
