// Commands to copy and paste: each is one mail, sent by swaks or curl.
import type { Mail } from './talk'
import { from, user } from './world'

export interface Hint extends Mail {
  what: string
}

const eve = 'eve@elsewhere.example'
const friend = 'friend@elsewhere.example'
const alice = { login: true, from: user.address, to: [friend] }

export const hints: Hint[] = [
  { what: 'a stranger writes to us', ip: from.stranger, from: eve, to: ['anna@example.com'] },
  { what: 'a stranger wants mail relayed', ip: from.stranger, from: eve, to: [friend] },
  {
    what: 'the same, wrapped in an address of ours',
    ip: from.stranger,
    from: eve,
    to: ['friend%elsewhere.example@example.com'],
  },
  {
    what: 'a stranger claims to be our boss',
    ip: from.stranger,
    from: 'boss@example.com',
    to: ['anna@example.com'],
  },
  { what: 'the branch office relays without a login', ip: from.branch, from: eve, to: [friend] },
  { what: 'alice logs in and relays', ip: from.stranger, ...alice },
  { what: 'alice logs in from the guest network', ip: from.guest, ...alice },
]

export function swaks(port: number, { ip, login, from: sender, to }: Mail): string {
  const source = ip === from.stranger ? '' : ` --local-interface ${ip}`
  const auth = login ? ` -a PLAIN -au ${user.name} -ap ${user.password}` : ''
  return `swaks --server 127.0.0.1:${port}${source} --from ${sender} --to ${to.join(',')}${auth}`
}

export function curl(port: number, { ip, login, from: sender, to }: Mail): string {
  const source = ip === from.stranger ? '' : ` --interface ${ip}`
  const auth = login ? ` --user ${user.name}:${user.password}` : ''
  const recipients = to.map((address) => ` --mail-rcpt ${address}`).join('')
  const server = `smtp://127.0.0.1:${port}${source}${auth}`
  return `echo hello | curl -v --crlf ${server} --mail-from ${sender}${recipients} -T -`
}

/** The command over several lines of at most `width` columns, each but the last ended with a backslash. */
export function continued(command: string, width: number, indent: string): string {
  const lines = ['']
  for (const word of command.split(/ (?=-|\|)/)) {
    const line = lines.at(-1)!
    if (line && indent.length + line.length + word.length + 3 > width) lines.push(word)
    else lines[lines.length - 1] = line ? `${line} ${word}` : word
  }
  return lines.join(` \\\n${indent}`)
}
