// Every hook of ours, in one list: which of Haraka's hooks, when among the other plugins, and why then. `register` of each
// plugin walks its own rows. Lower priorities run first (-100 to 100, other plugins mostly at 0).

/** One handler. `plugin`: the line in config/plugins; `shared`: brought once by whichever line loads first. */
export interface HookRow {
  hook: string
  plugin: 'shared' | 'acl' | 'auth' | 'domains' | 'limits' | 'overload'
  /** The exported function, as Haraka's log shows it. */
  method: string
  priority: number
  why: string
}

type Row = [hook: string, method: string, priority: number, why: string]

const rowsOf = (plugin: HookRow['plugin'], rows: Row[]): HookRow[] =>
  rows.map(([hook, method, priority, why]) => ({ hook, plugin, method, priority, why }))

/** All rows, by plugin. */
export const HOOK_ORDER: readonly HookRow[] = [
  ...rowsOf('shared', [
    ['init_master', 'guard_listeners', 0, 'the listeners are there'],
    ['init_master', 'tell_start', 100, 'every plugin is loaded; once a server'],
    ['init_child', 'guard_listeners', 0, 'the listeners are there'],
    ['deny', 'keep_denial', -100, 'before delay_deny, which would hold our denials back'],
  ]),
  ...rowsOf('acl', [
    ['lookup_rdns', 'reject', -100, 'the first hook that can refuse, before DNS is asked'],
    ['connect', 'reject', -100, 'XCLIENT comes back here'],
    [
      'connect',
      'skip_checks',
      -90,
      'a client that may relay is spared the checks of strangers, not our limits',
    ],
  ]),
  ...rowsOf('auth', [
    ['unrecognized_command', 'auth_command', -100, 'before any plugin looks at a password'],
    ['unrecognized_command', 'check_login', 0, 'where other auth plugins look at passwords'],
    ['unrecognized_command', 'nobody_took_it', 100, 'after every plugin that takes AUTH'],
    ['capabilities', 'offer_users', 0, 'where other auth plugins offer AUTH'],
    ['capabilities', 'offer', 100, 'after every plugin that offers AUTH'],
    ['mail', 'own_sender', -90, "before others spend time on a sender that is not the user's"],
    ['rcpt', 'own_sender_again', -90, 'a login or a reload may have come since MAIL'],
    ['data', 'own_sender_again', -90, 'a reload may have come since RCPT'],
    ['disconnect', 'give_up', 0, 'a client that has left waits for no password check'],
  ]),
  ...rowsOf('domains', [
    ['mail', 'begin', -100, 'keeps the parameters of MAIL, whatever ends the hook later'],
    ['mail', 'judge_sender', 100, 'after SPF has spoken'],
    ['rcpt', 'judge_recipient', -100, 'nobody is asked about a recipient that is refused anyway'],
    ['rcpt', 'accept_ours', 100, 'after other plugins had their chance to refuse'],
    ['rcpt_ok', 'last_word', -100, 'whichever plugin accepted the recipient'],
    [
      'rcpt_ok',
      'ask_next_hop',
      100,
      'after everything that may refuse: a RCPT cannot be taken back at the next hop',
    ],
    ['data', 'last_look', -100, 'before the message comes'],
    ['data_post', 'judge_message', -100, 'before others spend time on a message that is refused anyway'],
    ['queue', 'keep_from_others', -100, 'before stock queue plugins, which would deliver elsewhere'],
    ['queue', 'hand_over', 90, 'what other plugins decide there (a denial, discard, quarantine) holds'],
    ['queue', 'nobody_took_it', 100, 'after every queue plugin'],
    ['queue_outbound', 'keep_from_others', -100, 'before stock queue plugins, which would deliver elsewhere'],
    ['queue_outbound', 'hand_over_relayed', 90, 'what other plugins decide there holds; DKIM has signed'],
    ['queue_outbound', 'nobody_took_it', 100, 'after every queue plugin, before core sends to the MX'],
    ['get_mx', 'route', -100, 'before other plugins choose a route'],
    ['get_mx', 'never_to_mx', 100, 'after other plugins that may know a route'],
    ['bounce', 'bounce', -100, 'before a DSN is made'],
    ['reset_transaction', 'reset', -100, 'the transaction is still there'],
    ['deny', 'overrule', -100, 'a denial of our domains by the stock relay plugin is ours to judge'],
  ]),
  ...rowsOf('limits', [
    ['lookup_rdns', 'ask_connection', -95, 'after [reject], before DNS: both are asked side by side'],
    ['connect', 'count_connection', -95, 'before the checks of strangers; XCLIENT comes back here'],
    ['unrecognized_command', 'auth', -95, 'before a password is looked at'],
    ['mail', 'count_message', 90, 'after SPF, which tells whether MAIL FROM can be believed'],
    ['rcpt', 'shut', -98, 'before others are asked about a recipient'],
    ['rcpt_ok', 'count_recipient', 50, 'after what else may refuse, before the next hop is asked'],
    ['data_post', 'count_bytes', 50, 'after the plugins that read the message'],
    ['queue', 'count_bytes', -100, 'where a plugin kept it from being counted at data_post'],
    ['queue_outbound', 'count_bytes', -100, 'where a plugin kept it from being counted at data_post'],
    ['reset_transaction', 'reset', -100, 'the transaction is still there'],
    ['disconnect', 'disconnect', -100, 'gives back what the connection holds'],
  ]),
  ...rowsOf('overload', [
    ['lookup_rdns', 'judge_connection', -97, 'before DNS and Redis are asked, after [reject]'],
    ['connect', 'judge_connection', -97, 'XCLIENT comes back here'],
    ['mail', 'judge_mail', -95, 'before others spend time on a message that there is no room for'],
    ['data', 'judge_data', -95, 'before the message comes'],
    [
      'data_post',
      'judge_message',
      40,
      'after the plugins that read the message, before its bytes are charged',
    ],
    ['reset_transaction', 'end_message', -100, 'the transaction is still there'],
    ['disconnect', 'disconnect', -100, "gives back the connection's place"],
  ]),
]

/** The rows of one plugin: `relay-guard/acl` or `acl`. */
export const hooksOf = (plugin: string): HookRow[] =>
  HOOK_ORDER.filter((row) => row.plugin === plugin.replace(/^relay-guard\//, ''))
