// What we rely on in plugins.js, server.js and tls_socket.js.

import { Server } from 'node:net'
import { type Assumption, file, methods, values } from './presence'
import { tryDenial } from './trials'

const CODES = ['CONT', 'STOP', 'OK', 'NEXT_HOOK', 'DENY', 'DENYSOFT', 'DENYDISCONNECT', 'DENYSOFTDISCONNECT']
/** See `assumptions`. */
export const pluginAssumptions: Assumption[] = [
  ...CODES.map((code) => ({
    where: 'plugins.js',
    fault: `the global object has no number "${code}"`,
    holds: () => typeof Reflect.get(globalThis, code) === 'number',
  })),
  ...methods('plugins.js', 'a plugin', ({ plugin }) => plugin, 'register_hook'),
  ...values('plugins.js', 'a plugin', ({ plugin }) => plugin, { name: 'string', 'config.get': 'function' }),
  {
    where: 'plugins.js',
    fault: 'the deny hook is not given code, reply, plugin, method, parameters and hook',
    holds: (haraka) =>
      tryDenial(haraka, CONT).given.slice(0, 4).join() === `${DENY},no,relay-guard/trial,refuse`,
  },
  {
    where: 'plugins.js',
    fault: 'STOP in the deny hook does not leave a denial as it was',
    holds: (haraka) => tryDenial(haraka, STOP).replied[0] === DENY,
  },
  {
    where: 'plugins.js',
    fault: 'OK in the deny hook does not lift a denial',
    holds: (haraka) => tryDenial(haraka, OK).replied[0] === CONT,
  },
  ...values('server.js', 'the server', file('server'), { listeners: 'array' }),
  {
    where: 'tls_socket.js',
    fault: 'createServer() makes no net.Server with a listener for connections',
    holds: (haraka) => {
      const { createServer } = haraka.file('tls_socket') as { createServer(accept: () => void): Server }
      const server = createServer(() => undefined)
      return server instanceof Server && server.listenerCount('connection') === 1
    },
  },
]
