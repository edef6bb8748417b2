// What we rely on in transaction.js, in the outbound queue and in addresses.
import { plain } from '../address'
import { type Assumption, file, methods, values } from './presence'
import { addressClass, silent, throws, tryTransaction } from './trials'

const item = file('outbound', 'HMailItem.prototype')
/** See `assumptions`. */
export const messageAssumptions: Assumption[] = [
  ...values('transaction.js', 'a Transaction', (haraka) => tryTransaction(haraka).transaction, {
    rcpt_to: 'array',
    'rcpt_count.accept': 'number',
    data_bytes: 'number',
    encoding: 'string',
    'notes.skip_plugins': 'array',
    'results.add': 'function',
    'results.conn': 'object',
    'message_stream.spooling': 'boolean',
    'message_stream.pipe': 'function',
    'message_stream.headers': 'array',
    'header.lines': 'function',
    header_lines: 'array',
    header_pos: 'number',
    add_data: 'function',
    end_data: 'function',
    add_header: 'function',
    add_leading_header: 'function',
    remove_header: 'function',
  }),
  {
    where: 'transaction.js',
    fault: 'the message does not leave with the lines given to add_data',
    holds: (haraka) => {
      const { transaction } = tryTransaction(haraka)
      transaction.add_data(Buffer.from('X: ..y\r\n'))
      transaction.add_data(Buffer.from('\r\n'))
      return transaction.header_pos > 0 && transaction.message_stream.headers.join('') === 'X: ..y\n'
    },
  },
  ...methods('outbound/index.js', 'outbound', file('outbound'), 'send_trans_email send_email build_todo'),
  ...values('outbound/queue.js', 'the outbound queue', file('outbound/queue'), { queue_dir: 'string' }),
  ...methods(
    'transaction.js',
    'Transaction.prototype',
    file('transaction', 'Transaction.prototype'),
    'end_data',
  ),
  ...methods(
    'outbound/hmail.js',
    'HMailItem.prototype',
    item,
    'found_mx data_stream split_to_new_recipients delivered temp_fail deferred_respond bounce populate_bounce_message discard lognotice logerror',
  ),
  {
    where: 'outbound/hmail.js',
    fault: 'an answer to get_mx does not reach the "found_mx" of the queued message',
    holds: (haraka) => {
      let hosts: unknown
      const mail = {
        ...silent,
        todo: { domain: 'a.example' },
        found_mx: (found: unknown) => {
          hosts = found
        },
      }
      const { get_mx_respond } = item(haraka) as { get_mx_respond(code: number, mx: object): Promise<void> }
      void get_mx_respond.call(mail, OK, { exchange: 'a.example', priority: 0 })
      return Array.isArray(hosts)
    },
  },
  {
    where: 'address.js',
    fault: 'an envelope address does not give its values as strings',
    holds: (haraka) => {
      const Address = addressClass(haraka)
      const { host, address } = plain(new Address('<Ann@Example.org>'))
      return host === 'example.org' && address === 'Ann@Example.org' && plain(new Address('<>')).host === ''
    },
  },
  {
    where: 'package.json',
    fault: '@haraka/email-address gives an Address no string "address", or no parts',
    holds: (haraka) => {
      const { Address } = haraka.package('@haraka/email-address') as {
        Address: new (...parts: string[]) => Record<string, unknown>
      }
      const given = new Address('<Ann@Example.org>')
      const made = new Address('ann', 'example.org')
      const { user, host, original } = given
      return (
        user === 'Ann' &&
        host === 'example.org' &&
        original === '<Ann@Example.org>' &&
        made['address'] === 'ann@example.org'
      )
    },
  },
  {
    where: 'package.json',
    fault: '@haraka/email-address does not parse a From: field strictly',
    holds: (haraka) => {
      const { parseHeader } = haraka.package('@haraka/email-address') as {
        parseHeader(value: string, options: object): { user?: string; host?: string }[]
      }
      const strict = { startAt: 'from', allowAtInDisplayName: false }
      const [from] = parseHeader('Ann <ann@example.org>', strict)
      return (
        from?.user === 'ann' && from.host === 'example.org' && throws(() => parseHeader('a@b <c@d>', strict))
      )
    },
  },
]
