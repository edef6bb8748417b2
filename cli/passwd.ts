// relay-guard passwd NAME: a line for [users]. The password comes from the terminal or from standard input.
import { createInterface } from 'node:readline'
import { Writable } from 'node:stream'
import { makeHash } from '../plugins/auth/passwords'
import type { Call } from './call'

/** Prints the line. Throws Error for a name that no line can hold, an empty password, and two that differ. */
export async function passwd({ words, json, print }: Call): Promise<0 | 1> {
  const [name = ''] = words
  if (words.length !== 1 || !/^[^\s\x00-\x1f=;#[\]]+$/.test(name) || /^@|@$/.test(name))
    throw new Error('passwd takes one NAME, without spaces, = ; # [ ], and nothing missing beside an @')
  const password = await ask('Password: ')
  if (password === '') throw new Error('the password is empty')
  if (process.stdin.isTTY && (await ask('Again: ')) !== password) throw new Error('the two are not the same')
  const line = `${name} = ${await makeHash(password)}`
  print(json ? JSON.stringify({ line }) : line)
  return 0
}

/** One line, not shown on a terminal. */
function ask(prompt: string): Promise<string> {
  const terminal = process.stdin.isTTY === true
  if (terminal) process.stderr.write(prompt)
  const silent = new Writable({ write: (_chunk, _encoding, done) => done() })
  const lines = createInterface({ input: process.stdin, output: silent, terminal })
  return new Promise((resolve) => {
    let answer = ''
    lines.once('line', (line) => {
      answer = line
      lines.close()
    })
    lines.once('close', () => {
      if (terminal) process.stderr.write('\n')
      resolve(answer)
    })
  })
}
