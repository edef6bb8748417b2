// The story, step by step. A step is a row: what is tried, what must come of it, by which line of which file.
import { type Exchange, flood, talk } from './talk'
import { from, user, type World } from './world'

export interface Step {
  tried: string
  /** `arrives at …`, or the refusal and where it falls. */
  expected: string
  /** Must be among the rules that Haraka's log gives. */
  rule: string
  /** The last exchange is what came of it. */
  play(world: World): Promise<Exchange[]>
}

const eve = 'eve@elsewhere.example'
const friend = 'friend@elsewhere.example'
const anna = 'anna@example.com'

export const story: Step[] = [
  {
    tried: 'A stranger writes to example.com',
    expected: 'arrives at mx1',
    rule: 'domains.ini [example.com] next_hop',
    play: (world) => talk(world, { ip: from.stranger, from: eve, to: [anna] }),
  },
  {
    tried: 'A stranger writes to example.org, by LMTP',
    expected: 'arrives at lmtp',
    rule: 'domains.ini [example.org] next_hop',
    play: (world) => talk(world, { ip: from.stranger, from: eve, to: ['carol@example.org'] }),
  },
  {
    tried: 'An unknown user: the next hop itself refuses',
    expected: '550 5.1.1 at RCPT',
    rule: 'domains.ini [example.com] next_hop',
    play: (world) => talk(world, { ip: from.stranger, from: eve, to: ['nobody@example.com'] }),
  },
  {
    tried: 'A stranger wants mail relayed',
    expected: '550 5.7.1 at RCPT',
    rule: 'domains.ini [elsewhere.example] is not there',
    play: (world) => talk(world, { ip: from.stranger, from: eve, to: [friend] }),
  },
  {
    tried: 'The same, wrapped in an address of ours',
    expected: '550 5.7.1 at RCPT',
    rule: 'domains.ini [example.com] routing_characters',
    play: (world) =>
      talk(world, { ip: from.stranger, from: eve, to: ['friend%elsewhere.example@example.com'] }),
  },
  {
    tried: 'A stranger claims to be our boss',
    expected: '550 5.7.1 at MAIL',
    rule: 'domains.ini [main] anti_spoof = reject',
    play: (world) => talk(world, { ip: from.stranger, from: 'boss@example.com', to: [anna] }),
  },
  {
    tried: 'Alice logs in, writes to anna and to a friend',
    expected: 'arrives at mx1 and Internet',
    rule: `AUTH [user] ${user.name}`,
    play: (world) => talk(world, { ip: from.stranger, login: true, from: user.address, to: [anna, friend] }),
  },
  {
    tried: 'Alice writes in the name of the boss',
    expected: '550 5.7.1 at MAIL',
    rule: 'auth.ini [main] sender = address',
    play: (world) => talk(world, { ip: from.stranger, login: true, from: 'boss@example.com', to: [friend] }),
  },
  {
    tried: 'The branch office relays without a login',
    expected: 'arrives at Internet',
    rule: 'acl.ini [relay] 127.0.10.0/24',
    play: (world) => talk(world, { ip: from.branch, from: 'printer@example.com', to: [friend] }),
  },
  {
    tried: 'Alice logs in from a network in [relay] and [never]',
    expected: '550 5.7.1 at RCPT',
    rule: 'acl.ini [never] 127.0.20.0/24',
    play: (world) => talk(world, { ip: from.guest, login: true, from: user.address, to: [friend] }),
  },
  {
    tried: 'A known spammer connects',
    expected: '554 5.7.1 at connect',
    rule: `acl.ini [reject] ${from.spammer}`,
    play: (world) => talk(world, { ip: from.spammer, from: eve, to: [anna] }),
  },
  {
    tried: 'A flood of connections from one address',
    expected: '421 4.7.0 at connect',
    rule: 'limits.ini [connections per ip] limit',
    play: (world) => flood(world, from.flood, 200),
  },
  {
    tried: 'The disk of the mail server is nearly full',
    expected: '452 4.3.1 at MAIL',
    rule: 'overload.ini [disk] min_free',
    play: (world) => {
      const port = world.full?.port
      return talk(world, { ip: from.stranger, from: eve, to: [anna], ...(port && { port }) })
    },
  },
  {
    tried: 'mx1 is down: mx2 takes the mail at once',
    expected: 'arrives at mx2',
    rule: 'domains.ini [example.com] next_hop',
    play: async (world) => {
      await world.servers.first.sink.close()
      return talk(world, { ip: from.stranger, from: eve, to: [anna] })
    },
  },
]
