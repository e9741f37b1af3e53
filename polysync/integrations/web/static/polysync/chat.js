/* The chat widget: the element <polysync-chat>, in plain JavaScript without a build.
 *
 *   <script src="…/chat.js" defer data-prefix="/chat"></script>
 *
 * puts a floating button into the page; with data-target="#element" the chat fills
 * that element. Every data- attribute of the script becomes one of the element:
 *
 *   data-prefix      where the views live, "/chat" for /chat/start, /chat/events, …
 *   data-target      a selector: mount there, and open at once
 *   data-css         address of chat.css; by default it is looked for beside this file
 *   data-title       the name of the chat
 *   data-theme       "light" or "dark"; by default what the visitor's system says
 *   data-lang        language of the strings ("he" also turns the layout round)
 *   data-strings     JSON object with translations, see STRINGS
 *   data-csrf-token  the CSRF token itself, or the name of the <meta> (data-csrf-meta,
 *                    "csrf-token") or the cookie (data-csrf-cookie, "csrftoken") with it
 *
 * What travels is described in polysync/integrations/web/wire.py. Nothing here needs
 * 'unsafe-inline' or 'unsafe-eval'. HTML is taken from the server in one place only,
 * where it has been sanitised; all other text is set as text.
 */
(() => {
  'use strict';

  const STRINGS = {
    title: 'Chat',
    open: 'Open the chat',
    close: 'Close the chat',
    log: 'Conversation',
    input: 'Your message',
    placeholder: 'Write a message…',
    send: 'Send',
    you: 'You',
    agent: 'Assistant',
    live_agent: 'Agent',
    sending: 'Sending…',
    sent: 'Sent',
    failed: 'Not sent.',
    retry: 'Retry',
    suggestions: 'Suggested replies',
    newest: 'Newest messages',
    unread: '{count} new',
    incomplete: 'This reply broke off.',
    typing: '{name} is typing…',
    connecting: 'Connecting…',
    online: 'Online',
    waiting: 'Waiting for an agent',
    joined: '{name} has joined the conversation.',
    left: '{name} has left the conversation.',
    handoff_requested: 'Handing you over to a person…',
    handoff_accepted: 'A person will be with you shortly.',
    handoff_queued: 'You are in the queue.',
    handoff_position: 'You are number {position} in the queue.',
    handoff_wait: 'Estimated wait: about {minutes} min.',
    handoff_required: 'A person has to help you with this. Please contact us directly.',
    handoff_failed: 'Nobody could be reached. You can go on writing here.',
    handoff_timeout: 'Nobody was free in time. You can go on writing here.',
    idle: 'Are you still there? This conversation will end soon.',
    offline: 'The connection is lost. Trying to reconnect…',
    reconnecting: 'Reconnecting…',
    reload: 'Please reload the page to go on.',
    unavailable: 'The chat cannot be reached right now.',
    try_again: 'Try again',
    end: 'End conversation',
    end_question: 'End this conversation?',
    end_confirm: 'End',
    end_cancel: 'Keep chatting',
    ended: 'This conversation has ended.',
    restart: 'Start a new conversation',
  };

  const ICONS = {
    chat: 'M4 5.5A2.5 2.5 0 0 1 6.5 3h11A2.5 2.5 0 0 1 20 5.5v8a2.5 2.5 0 0 1-2.5 2.5H11l-4.6 4.1c-.5.5-1.4.1-1.4-.6V16A2.5 2.5 0 0 1 4 13.500z',
    close: 'M6.400 5 12 10.600 17.600 5 19 6.400 13.400 12 19 17.600 17.600 19 12 13.400 6.400 19 5 17.600 10.600 12 5 6.400z',
    send: 'M3.400 20.400 21 12 3.400 3.600 3.400 10.200 15 12 3.400 13.800z',
    end: 'M10 4H6a2 2 0 0 0-2 2v12a2 2 0 0 0 2 2h4v-2H6V6h4zm6.300 3.300-1.400 1.400L17.200 11H9v2h8.200l-2.300 2.300 1.400 1.400L21 12z',
    phone: 'M6.600 10.800a15 15 0 0 0 6.600 6.600l2.200-2.200a1 1 0 0 1 1-.25 11.400 11.400 0 0 0 3.600.57 1 1 0 0 1 1 1V20a1 1 0 0 1-1 1A17 17 0 0 1 3 4a1 1 0 0 1 1-1h3.500a1 1 0 0 1 1 1 11.400 11.400 0 0 0 .57 3.600 1 1 0 0 1-.25 1z',
    down: 'M12 16.500 4.500 9l1.400-1.400L12 13.700l6.100-6.100L19.500 9z',
    link: 'M14 4h6v6h-2V7.400l-8.300 8.300-1.400-1.400L16.600 6H14zM5 6h5v2H6v10h10v-4h2v5a1 1 0 0 1-1 1H5a1 1 0 0 1-1-1V7a1 1 0 0 1 1-1z',
  };

  const RIGHT_TO_LEFT = /^(ar|arc|ckb|dv|fa|he|iw|ks|nqo|ps|sd|syr|ug|ur|yi)\b/i;

  const REQUEST_TIMEOUT = 45_000; // ms
  const STEADY_AFTER = 500; // ms: a stream that lives this long was no failure
  const SILENT_FOR = 60_000; // ms: a stream ends much sooner, so this one hangs
  const GLANCE = 1_000; // ms: how long a page that nobody sees looks for news,
  const REST = 20_000; // ms: and how long it does not
  const BACKOFF = 1_000; // ms, doubled each time
  const BACKOFF_MAX = 30_000; // ms
  const TYPING_EVERY = 3_000; // ms
  const TYPING_SHOWN = { agent: 60_000, live_agent: 12_000 }; // ms, without news
  const NEAR_BOTTOM = 60; // px
  const UNSPOKEN = 1_000; // ms: screen readers look at what is new a moment later

  const script = document.currentScript;
  // With "require-trusted-types-for 'script'" the site allows the policy "polysync".
  const policy = window.trustedTypes?.createPolicy('polysync', {
    createHTML: (html) => html,
  });

  /** Make an element: attributes (on… are listeners), then children. */
  function h(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
      else if (value === true) element.setAttribute(name, '');
      else if (value !== false && value != null) element.setAttribute(name, value);
    }
    element.append(...children.filter((child) => child != null));
    return element;
  }

  function icon(name) {
    const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
    svg.setAttribute('viewBox', '0 0 24 24');
    svg.setAttribute('aria-hidden', 'true');
    svg.setAttribute('class', `icon icon-${name}`);
    const path = document.createElementNS('http://www.w3.org/2000/svg', 'path');
    path.setAttribute('d', ICONS[name]);
    svg.append(path);
    return svg;
  }

  /** A picture with nothing to say to a screen reader; it goes if it fails to load. */
  function picture(url, className, lost = () => {}) {
    return h('img', {
      class: className, src: url, alt: '', decoding: 'async', referrerpolicy: 'no-referrer',
      onerror: (event) => { event.target.remove(); lost(); },
    });
  }

  /** What can be shown of a reply under way: its markup, which is not whole, left out. */
  function preview(text) {
    return text
      .replace(/<br\s*\/?>/gi, '\n')
      .replace(/<\/?[a-z][^>]*>|<\/?[a-z][^>]*$|<$/gi, '')
      .replace(/\*\*|__|`+/g, '');
  }

  function newId() {
    const bytes = crypto.getRandomValues(new Uint8Array(16));
    return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
  }

  class RequestFailed extends Error {
    constructor(status, code, message) {
      super(message);
      this.status = status;
      this.code = code;
    }
  }

  class PolysyncChat extends HTMLElement {
    connectedCallback() {
      if (!this.shadowRoot) {
        this.configure();
        this.build();
        this.forget();
      }
      this.listeners = new AbortController();
      const { signal } = this.listeners;
      window.addEventListener('online', () => this.reconnectNow(), { signal });
      document.addEventListener('visibilitychange', () => {
        this.settle();
        if (!document.hidden) this.reconnectNow();
      }, { signal });
      // A page in the browser's history must not hold a connection.
      window.addEventListener('pagehide', () => this.disconnect(), { signal });
      window.addEventListener('pageshow', (event) => {
        if (event.persisted) this.reconnectNow();
      }, { signal });
      if (!this.floating) this.begin();
      else if (this.remembered('open')) this.toggle(true, false);
    }

    disconnectedCallback() {
      this.listeners.abort();
      this.disconnect();
      this.starting = null;
    }

    // --- what it looks like ---------------------------------------------------------

    configure() {
      const { prefix, mode, strings, lang } = this.dataset;
      this.base = (prefix ?? '').replace(/\/+$/, '');
      this.floating = mode === 'launcher';
      this.strings = { ...STRINGS, ...(strings ? JSON.parse(strings) : {}) };
      if (this.dataset.title) this.strings.title = this.dataset.title;
      this.defaultLanguage = lang || document.documentElement.lang || 'en';
    }

    say(key, values = {}) {
      const text = Object.hasOwn(this.strings, key) ? this.strings[key] : '';
      return text.replace(/\{(\w+)\}/g, (_, name) => values[name] ?? '');
    }

    build() {
      const say = (key) => this.say(key);
      const button = (key, name, onclick) =>
        h('button', { type: 'button', class: 'tool', 'aria-label': say(key), title: say(key), onclick }, icon(name));

      this.face = h('span', { class: 'avatar', 'aria-hidden': 'true' });
      this.nameLine = h('bdi', {}, say('title'));
      this.statusLine = h('p', { class: 'presence' });
      this.endButton = button('end', 'end', () => this.ask(true));
      this.endButton.hidden = true;
      this.banner = h('div', { class: 'banner', role: 'status' });
      this.items = h('div', { class: 'items' });
      this.dots = h('div', { class: 'item agent typing', 'aria-hidden': 'true', hidden: true },
        h('div', { class: 'bubble' }, h('span'), h('span'), h('span')));
      this.whisper = h('p', { class: 'hidden', role: 'status' });
      this.log = h('div', { class: 'log', role: 'log', tabindex: '0', 'aria-live': 'polite', 'aria-label': say('log') },
        this.items, this.dots);
      this.newest = h('button', { type: 'button', class: 'newest', hidden: true, onclick: () => this.toBottom(true) },
        icon('down'), say('newest'));
      this.input = h('textarea', {
        id: 'input', rows: '1', placeholder: say('placeholder'), enterkeyhint: 'send', autocomplete: 'off',
        onkeydown: (event) => {
          // In Safari, the Enter that ends a composition is told by its code alone.
          if (event.key !== 'Enter' || event.shiftKey || event.isComposing || event.keyCode === 229) return;
          event.preventDefault();
          this.submit();
        },
        oninput: () => this.typed(),
      });
      this.composer = h('form', { class: 'composer', onsubmit: (event) => { event.preventDefault(); this.submit(); } },
        h('label', { class: 'hidden', for: 'input' }, say('input')), this.input,
        h('button', { type: 'submit', class: 'send', 'aria-label': say('send'), title: say('send') }, icon('send')));
      this.question = h('div', { class: 'strip', role: 'group', 'aria-label': say('end'), hidden: true },
        h('p', {}, say('end_question')),
        h('button', { type: 'button', class: 'plain', onclick: () => this.ask(false) }, say('end_cancel')),
        h('button', { type: 'button', class: 'strong', onclick: () => this.endConversation() }, say('end_confirm')));
      this.restartButton = h('button', { type: 'button', class: 'strong', onclick: () => this.restart() }, say('restart'));
      this.closing = h('div', { class: 'strip ended', hidden: true },
        h('p', { role: 'status' }, say('ended')), this.restartButton);
      // The chat has the page for itself, or is a part of it.
      const level = document.querySelector('h1') ? 2 : 1;
      const heading = { class: 'name', ...(this.floating ? {} : { role: 'heading', 'aria-level': level }) };
      this.panel = h('section', {
        class: 'chat', id: 'chat', role: this.floating ? 'dialog' : 'region', 'aria-label': say('title'), hidden: this.floating,
        onkeydown: (event) => { this.escape(event); this.stay(event); },
      },
      h('header', {}, this.face, h('div', { class: 'who' }, h('p', heading, this.nameLine), this.statusLine), this.endButton,
        this.floating ? button('close', 'close', () => this.toggle(false)) : null),
      this.banner, h('div', { class: 'middle' }, this.log, this.newest), this.whisper,
      h('footer', {}, this.composer, this.question, this.closing));

      this.badge = h('span', { class: 'badge', hidden: true });
      this.launcher = h('button', {
        type: 'button', class: 'launcher', 'aria-expanded': 'false', 'aria-controls': 'chat', 'aria-label': say('open'),
        hidden: !this.floating, onclick: () => this.toggle(this.panel.hidden),
      }, icon('chat'), icon('close'), this.badge);

      const css = this.dataset.css || (script && new URL('chat.css', script.src).href) || 'chat.css';
      // Unstyled for a moment would be a jump: shown once the sheet is there.
      this.root = h('div', { class: 'root', hidden: true }, this.panel, this.launcher);
      const shown = () => { this.root.hidden = false; this.toBottom(); };
      this.attachShadow({ mode: 'open' }).append(
        h('link', { rel: 'stylesheet', href: css, onload: shown, onerror: shown }), this.root);

      this.follow = true;
      let top = 0;
      this.log.addEventListener('scroll', () => {
        const { scrollTop, scrollHeight, clientHeight } = this.log;
        const near = scrollHeight - scrollTop - clientHeight < NEAR_BOTTOM;
        // Only a visitor scrolls up; what grows below leaves scrollTop where it is.
        if (near) this.follow = true;
        else if (scrollTop < top) this.follow = false;
        top = scrollTop;
        if (near) this.newest.hidden = true;
      }, { passive: true });
      const keepUp = new ResizeObserver(() => { if (this.follow) this.toBottom(); });
      keepUp.observe(this.items);
      keepUp.observe(this.log);
      this.root.lang = this.defaultLanguage;
      this.setStatus('');
    }

    /** Set the language of the conversation, and the direction of the layout. */
    speak(language) {
      this.language = language;
      this.items.lang = language; // the strings around keep theirs
      this.root.dir = RIGHT_TO_LEFT.test(language) ? 'rtl' : 'ltr';
    }

    setStatus(key) {
      this.statusLine.textContent = this.say(key);
      this.statusLine.dataset.state = key;
    }

    /** Show a line above the conversation, with a button if there is something to do. */
    warn(key, action = null) {
      if (key === this.warned) return;
      this.warned = key;
      this.banner.replaceChildren();
      if (key) this.banner.append(h('p', {}, this.say(key)));
      if (action) this.banner.append(h('button', { type: 'button', class: 'plain', onclick: action }, this.say('try_again')));
    }

    /** Show in the header who answers. */
    introduce(agent, role = 'agent') {
      this.who = { name: agent?.name || this.say(role), avatar: agent?.avatar ?? null };
      this.agents[role] = this.who;
      this.nameLine.textContent = agent?.name || this.say('title');
      this.face.replaceChildren(this.portrait(this.who));
    }

    portrait({ name, avatar }) {
      const letter = h('span', { class: 'letter', 'aria-hidden': 'true' }, [...name][0]?.toUpperCase() ?? '');
      if (!avatar) return letter;
      const image = picture(avatar, '', () => frame.replaceChildren(letter));
      const frame = h('span', { class: 'frame' }, image);
      return frame;
    }

    toBottom(now = false) {
      if (now) this.follow = true;
      if (this.follow) {
        this.log.scrollTop = this.log.scrollHeight;
        this.newest.hidden = true;
      }
    }

    /** Say that something new has come: keep it in view, or tell where it is. */
    arrived() {
      if (this.loading) return;
      if (this.follow) this.toBottom();
      else this.newest.hidden = false;
      if (this.panel.hidden) {
        this.badge.textContent = String(++this.unread);
        this.badge.hidden = false;
        this.launcher.setAttribute('aria-label', `${this.say('open')} (${this.say('unread', { count: this.unread })})`);
      }
    }

    // --- the floating panel ---------------------------------------------------------

    toggle(open, focus = true) {
      this.panel.hidden = !open;
      this.launcher.setAttribute('aria-expanded', String(open));
      this.launcher.setAttribute('aria-label', this.say(open ? 'close' : 'open'));
      this.root.classList.toggle('open', open);
      this.panel.setAttribute('aria-modal', String(this.covers));
      this.remember('open', open);
      this.unread = 0;
      this.badge.hidden = true;
      if (open) {
        this.begin();
        this.toBottom(true);
      }
      if (focus) (open ? this.control() : this.launcher).focus();
    }

    /** The control that stands in the footer now. */
    control() {
      if (!this.closing.hidden) return this.restartButton;
      return this.question.hidden ? this.input : this.question.querySelector('button');
    }

    escape(event) {
      if (event.key !== 'Escape' || event.isComposing) return;
      if (!this.question.hidden) this.ask(false);
      else if (this.floating) this.toggle(false);
      else return;
      event.stopPropagation();
    }

    /** Whether the panel is all that can be seen: then there is no launcher beside it. */
    get covers() {
      return this.floating && !this.panel.hidden && !this.launcher.getClientRects().length;
    }

    /** Keep the focus from going where it cannot be seen. */
    stay(event) {
      if (event.key !== 'Tab' || !this.covers) return;
      const stops = [...this.panel.querySelectorAll('a[href], button:enabled, textarea, [tabindex="0"]')]
        .filter((each) => each.getClientRects().length);
      const [from, to] = event.shiftKey ? [stops[0], stops.at(-1)] : [stops.at(-1), stops[0]];
      if (this.shadowRoot.activeElement !== from) return;
      event.preventDefault();
      to.focus();
    }

    // Only whether the panel was open; nothing of the conversation is kept here.
    remember(key, value) {
      try {
        sessionStorage.setItem(`polysync:${this.base}:${key}`, value ? '1' : '');
      } catch { /* storage may be forbidden */ }
    }

    remembered(key) {
      try {
        return Boolean(sessionStorage.getItem(`polysync:${this.base}:${key}`));
      } catch {
        return false;
      }
    }

    // --- requests -------------------------------------------------------------------

    csrfToken() {
      const { csrfToken, csrfMeta = 'csrf-token', csrfCookie = 'csrftoken' } = this.dataset;
      if (csrfToken) return csrfToken;
      const meta = document.querySelector(`meta[name="${CSS.escape(csrfMeta)}"]`);
      if (meta) return meta.content;
      const cookie = document.cookie.split('; ').find((each) => each.startsWith(`${csrfCookie}=`));
      return cookie ? decodeURIComponent(cookie.slice(csrfCookie.length + 1)) : '';
    }

    async post(path, body) {
      const response = await fetch(`${this.base}/${path}`, {
        method: 'POST',
        credentials: 'same-origin',
        headers: { 'Content-Type': 'application/json', Accept: 'application/json', 'X-CSRFToken': this.csrfToken() },
        body: JSON.stringify(body),
        signal: AbortSignal.timeout(REQUEST_TIMEOUT),
      });
      const answer = await response.json().catch(() => null);
      if (!response.ok) throw new RequestFailed(response.status, answer?.error?.code ?? '', answer?.error?.message ?? '');
      return answer ?? {};
    }

    /** Start, unless that has happened; the promise holds until it fails. */
    begin() {
      this.starting ??= this.start(false);
      return this.starting;
    }

    start(fresh) {
      this.disconnect();
      this.warn('');
      this.setStatus('connecting');
      const starting = this.post('start', fresh ? { new: true } : {}).then((snapshot) => {
        if (this.starting === starting) this.load(snapshot);
      });
      starting.catch((error) => {
        if (this.starting !== starting) return;
        this.starting = null;
        this.setStatus('');
        if (error.status === 401 || error.status === 403) this.warn('reload', () => location.reload());
        else this.warn('unavailable', () => { this.starting = this.start(fresh); });
      });
      return starting;
    }

    restart() {
      if (this.restarting) return; // a second click is no second conversation
      this.restarting = this.starting = this.start(true);
      this.starting.then(() => this.control().focus(), () => {}).finally(() => { this.restarting = null; });
    }

    /** Show the conversation so far and listen for what comes. */
    load(snapshot) {
      if (this.conversation && snapshot.conversation !== this.conversation) this.forget();
      this.conversation = snapshot.conversation;
      this.cursor = snapshot.cursor;
      this.loading = true;
      // Nobody wants to be read again what has been said before.
      const known = !this.seen.size && snapshot.events.some((event) => event.type === 'user');
      if (known) this.log.setAttribute('aria-live', 'off');
      if (snapshot.language) this.speak(snapshot.language);
      for (const event of snapshot.events) this.receive(event);
      // What the visitor wrote before the conversation was there comes after it.
      this.items.append(...[...this.outbox.values()].map((sent) => sent.item));
      if (known) setTimeout(() => this.log.setAttribute('aria-live', 'polite'), UNSPOKEN);
      this.loading = false;
      const last = snapshot.events.at(-1);
      this.showTyping(last?.type === 'typing' ? last : null);
      this.toBottom(true);
      if (snapshot.ended) {
        this.finish();
        return;
      }
      this.setStatus(this.waiting ? 'waiting' : 'online');
      this.endButton.hidden = false;
      this.listen();
    }

    /** Begin with an empty page. */
    forget() {
      this.seen = new Set(); // ids of events
      this.replies = new Map(); // by message_id
      this.outbox = new Map(); // by client_id: what the visitor has sent from this page
      this.queue = Promise.resolve();
      this.lastSender = null;
      this.lastSent = null;
      this.choices = null;
      this.queueNotice = null;
      this.waiting = false;
      this.live = null;
      this.ended = false;
      this.failures = 0;
      this.unread = 0;
      this.typingSince = -Infinity;
      this.items.replaceChildren();
      this.composer.hidden = false;
      this.question.hidden = true;
      this.closing.hidden = true;
      this.showTyping(null);
      this.agents = {};
      this.introduce(null);
      this.speak(this.defaultLanguage);
    }

    // --- the stream -----------------------------------------------------------------

    listen() {
      this.disconnect();
      const source = new EventSource(`${this.base}/events?after=${encodeURIComponent(this.cursor)}`);
      this.source = source;
      let steady = 0;
      // A network that went away without a word ends no stream.
      const alive = () => {
        clearTimeout(this.watchdog);
        this.watchdog = setTimeout(() => this.listen(), SILENT_FOR);
      };
      alive();
      source.onopen = () => {
        alive();
        this.settle();
        steady = setTimeout(() => this.steady(), this.failures ? STEADY_AFTER : 0);
      };
      source.onmessage = ({ data, lastEventId }) => {
        alive();
        if (lastEventId) this.cursor = lastEventId;
        this.receive(JSON.parse(data));
      };
      source.onerror = () => {
        clearTimeout(steady);
        // A stream ends after some seconds and the browser opens the next by itself.
        // Only if that fails as well is something wrong.
        this.failures += 1;
        if (source.readyState === EventSource.CONNECTING && this.failures < 2) return;
        const refused = source.readyState === EventSource.CLOSED;
        this.disconnect();
        if (this.failures > 1) {
          this.warn('offline', () => this.reconnectNow());
          this.setStatus('connecting');
        }
        const wait = Math.min(BACKOFF_MAX, BACKOFF * 2 ** Math.max(0, this.failures - 2));
        this.timer = setTimeout(() => (refused ? this.inquire() : this.listen()), wait * (0.8 + 0.4 * Math.random()));
      };
    }

    /** The stream works. */
    steady() {
      this.failures = 0;
      // What the server says of its own connection begins anew with each stream.
      if (this.warned === 'offline' || this.warned === 'reconnecting') this.warn('');
      this.setStatus(this.waiting ? 'waiting' : 'online');
    }

    /** Leave the stream to others if nobody sees this page.
     *
     * With HTTP/1.1 a browser has six connections for all tabs of a site, and each stream
     * holds one. Who waits for a person is not left alone for a moment.
     */
    settle() {
      if (!this.source) return;
      clearTimeout(this.timer);
      if (!document.hidden || this.live || this.waiting) return;
      this.timer = setTimeout(() => {
        this.disconnect();
        this.timer = setTimeout(() => this.listen(), REST);
      }, GLANCE);
    }

    /** Ask why the stream was refused: an EventSource does not say. */
    async inquire() {
      const abort = new AbortController();
      const patience = setTimeout(() => abort.abort(), REQUEST_TIMEOUT);
      let status = 0;
      try {
        const address = `${this.base}/events?after=${encodeURIComponent(this.cursor)}`;
        status = (await fetch(address, { credentials: 'same-origin', signal: abort.signal })).status;
      } catch { /* not reached: as good as any other failure */ }
      clearTimeout(patience);
      abort.abort();
      if (!this.isConnected || this.ended) return;
      if (status === 204 || status === 409 || status === 410) this.finish();
      else if (status === 401 || status === 403) this.warn('reload', () => location.reload());
      else this.listen();
    }

    disconnect() {
      clearTimeout(this.timer);
      clearTimeout(this.watchdog);
      this.source?.close();
      this.source = null;
    }

    reconnectNow() {
      if (!this.conversation && this.warned) this.begin().catch(() => {}); // it could not start
      if (this.conversation && !this.ended && this.source?.readyState !== EventSource.OPEN) this.listen();
    }

    receive(event) {
      if (event.id != null) {
        if (this.seen.has(event.id)) return;
        this.seen.add(event.id);
      }
      switch (event.type) {
        case 'message': this.showMessage(event); break;
        case 'chunk': this.showChunk(event); break;
        case 'user': this.showEcho(event); break;
        case 'typing': this.showTyping(event); break;
        case 'joined': this.showJoined(event); break;
        case 'left': this.showLeft(event); break;
        case 'handoff': this.showHandoff(event); break;
        case 'notice': if (event.text) this.notice(event.text, event.level); break;
        case 'idle': this.notice(this.say('idle'), 'warning'); break;
        case 'language': if (event.language) this.speak(event.language); break;
        case 'connection': this.showConnection(event); break;
        case 'end': this.finish(); break;
        case 'again': this.steady(); break;
        case 'reset': this.starting = this.start(false); break;
        default: // from a newer server
      }
    }

    // --- the conversation -----------------------------------------------------------

    /** Add a message's row; a new sender, or a new agent, gets a heading. */
    row(role, agent, time) {
      const name = role === 'user' ? this.say('you') : agent.name;
      const sender = `${role}:${name}`;
      const first = sender !== this.lastSender;
      this.lastSender = sender;
      const bubble = h('div', { class: 'bubble', dir: 'auto' });
      const content = h('div', { class: 'content' });
      if (role === 'user') content.append(h('span', { class: 'hidden' }, `${name}: `));
      else if (first) content.append(h('p', { class: 'sender' }, h('bdi', {}, name), this.clock(time)));
      content.append(bubble);
      const item = h('div', { class: `item ${role === 'user' ? 'user' : 'agent'}${first ? ' first' : ''}` });
      if (role !== 'user') {
        item.append(h('span', { class: 'avatar', 'aria-hidden': 'true' }, first ? this.portrait(agent) : ''));
      }
      item.append(content);
      this.items.append(item);
      return { item, content, bubble };
    }

    clock(time) {
      const date = new Date(time ?? NaN);
      if (Number.isNaN(date.getTime())) return null;
      let text;
      try {
        text = date.toLocaleTimeString(this.language, { hour: '2-digit', minute: '2-digit' });
      } catch {
        text = date.toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' });
      }
      return h('time', { datetime: time }, text);
    }

    /** The reply with this id: the one that is being written, or a new one. */
    reply(event) {
      const known = event.message_id == null ? undefined : this.replies.get(event.message_id);
      if (known) return known;
      const role = event.role ?? 'agent';
      // A message may leave out what the agent's joining has told.
      const joined = this.agents[role] ?? { name: this.say(role), avatar: null };
      const name = event.agent?.name || joined.name;
      const agent = { name, avatar: event.agent?.avatar ?? (name === joined.name ? joined.avatar : null) };
      const reply = { ...this.row(role, agent, event.time), parts: new Map(), complete: false, extras: [] };
      if (event.message_id != null) this.replies.set(event.message_id, reply);
      return reply;
    }

    showChunk(event) {
      this.showTyping(null);
      const reply = this.reply(event);
      if (reply.complete) return;
      reply.parts.set(event.index ?? reply.parts.size + 1, event.text);
      reply.item.classList.add('streaming');
      reply.bubble.setAttribute('aria-busy', 'true');
      const inOrder = [...reply.parts.keys()].sort((a, b) => a - b);
      reply.bubble.textContent = preview(inOrder.map((index) => reply.parts.get(index)).join(''));
      this.arrived();
    }

    showMessage(event) {
      this.showTyping(null);
      const reply = this.reply(event);
      reply.complete = event.complete;
      reply.item.classList.remove('streaming');
      reply.bubble.removeAttribute('aria-busy');
      // The one place for HTML: the server has sanitised it.
      reply.bubble.innerHTML = policy ? policy.createHTML(event.html) : event.html;
      reply.bubble.hidden = !event.html;
      for (const table of reply.bubble.querySelectorAll('table')) {
        const frame = h('div', { class: 'wide' });
        table.replaceWith(frame);
        frame.append(table);
        // What is wider than its bubble can be scrolled with the keyboard too.
        if (frame.scrollWidth > frame.clientWidth) frame.tabIndex = 0;
      }
      for (const extra of reply.extras) extra.remove();
      reply.extras = [
        ...event.attachments.filter(({ title, url, image }) => title || url || image).map((each) => this.card(each)),
        ...event.calls.map((call) => h('a', { class: 'call', href: call.url }, icon('phone'),
          h('span', {}, call.title ? h('bdi', {}, call.title) : null, h('bdi', { class: 'number', dir: 'ltr' }, call.number)))),
      ];
      if (!event.complete) reply.extras.push(h('p', { class: 'remark' }, this.say('incomplete')));
      this.offer(event.suggestions, reply);
      reply.content.append(...reply.extras);
      this.arrived();
      if (event.ends) this.finish();
    }

    card({ title, url, image, action }) {
      const body = [
        image ? picture(image, 'preview') : null,
        h('span', { class: 'card-text' },
          title ? h('span', { class: 'card-title', dir: 'auto' }, title) : null,
          url ? h('span', { class: 'card-action' }, h('bdi', {}, action || new URL(url).host || url), icon('link')) : null),
      ];
      return url
        ? h('a', { class: 'card', href: url, target: '_blank', rel: 'noopener noreferrer nofollow' }, ...body)
        : h('div', { class: 'card' }, ...body);
    }

    /** Offer answers as buttons; only the newest can be chosen. */
    offer(suggestions, reply) {
      this.decide();
      if (!suggestions.length) return;
      const buttons = suggestions.map((text) => h('button', {
        type: 'button', dir: 'auto', onclick: (event) => {
          event.currentTarget.classList.add('chosen');
          this.send(text);
          this.input.focus();
        },
      }, text));
      this.choices = h('div', {
        class: 'suggestions', role: 'group', 'aria-label': this.say('suggestions'),
        onkeydown: (event) => {
          const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
          const at = buttons.indexOf(event.target);
          if (!step || at < 0) return;
          event.preventDefault();
          const turn = this.root.dir === 'rtl' && /Left|Right/.test(event.key) ? -step : step;
          buttons[(at + turn + buttons.length) % buttons.length].focus();
        },
      }, ...buttons);
      reply.extras.push(this.choices);
    }

    decide() {
      for (const button of this.choices?.querySelectorAll('button') ?? []) button.disabled = true;
      this.choices = null;
    }

    showTyping(event) {
      clearTimeout(this.typingTimer);
      const active = Boolean(event?.active) && !this.loading;
      this.dots.hidden = !active;
      const name = event?.agent?.name || this.agents?.[event?.role]?.name || this.say(event?.role ?? 'agent');
      this.whisper.textContent = active ? this.say('typing', { name }) : '';
      if (!active) return;
      this.typingTimer = setTimeout(() => this.showTyping(null), TYPING_SHOWN[event.role] ?? 12_000);
      if (this.follow) this.toBottom();
    }

    showJoined({ role, agent }) {
      this.introduce(agent ?? {}, role);
      if (role !== 'live_agent') return;
      this.live = this.who;
      this.waiting = false;
      this.queueNotice?.parentElement.remove();
      this.queueNotice = null;
      this.setStatus('online');
      this.notice(this.say('joined', { name: this.who.name }));
    }

    showLeft({ role, agent }) {
      if (role !== 'live_agent') return;
      this.showTyping(null);
      this.notice(this.say('left', { name: agent?.name || this.live?.name || this.say('live_agent') }));
      this.live = null;
      this.introduce(this.agents.agent); // until somebody else joins
    }

    showHandoff({ status, position, wait, text }) {
      const failed = status === 'failed' || status === 'timeout';
      const minutes = wait == null ? null : Math.max(1, Math.ceil(wait / 60));
      const words = text || [
        position == null ? this.say(`handoff_${status}`) : this.say('handoff_position', { position }),
        minutes == null ? '' : this.say('handoff_wait', { minutes }),
      ].filter(Boolean).join(' ');
      this.showTyping(null);
      this.waiting = !failed && status !== 'required';
      this.setStatus(this.waiting ? 'waiting' : 'online');
      // One line that changes, not one for each place moved up in the queue.
      if (this.queueNotice) this.queueNotice.textContent = words;
      else this.queueNotice = this.notice(words, failed ? 'warning' : 'info');
      if (failed) {
        this.queueNotice.parentElement.dataset.level = 'warning';
        this.queueNotice = null;
      }
    }

    showConnection({ status }) {
      if (status === 'reconnecting') this.warn('reconnecting');
      else if (status === 'failed') this.warn('unavailable', () => { this.starting = this.start(false); });
      else if (status === 'open') this.warn('');
    }

    notice(text, level = 'info') {
      const line = h('p', { dir: 'auto' }, text);
      this.items.append(h('div', { class: 'item notice', 'data-level': level }, line));
      this.lastSender = null;
      this.arrived();
      return line;
    }

    // --- the visitor ----------------------------------------------------------------

    submit() {
      const text = this.input.value.trim();
      if (!text || this.ended) return;
      this.input.value = '';
      this.input.dir = '';
      this.input.rows = 1;
      this.send(text);
    }

    send(text) {
      const sent = { ...this.userRow(text, null), text, id: newId() };
      this.outbox.set(sent.id, sent);
      this.typingSince = -Infinity;
      this.toBottom(true);
      this.deliver(sent);
    }

    userRow(text, time) {
      this.decide();
      const row = this.row('user', null, time);
      row.bubble.textContent = text;
      row.state = h('p', { class: 'state', 'aria-live': 'polite' });
      row.content.append(row.state);
      return row;
    }

    /** Post a message; one after the other, so that they arrive as they were written. */
    deliver(sent) {
      this.mark(sent, 'sending');
      const attempt = () => this.begin().then(() => this.post('messages', { text: sent.text, client_id: sent.id }));
      this.queue = this.queue.then(attempt).then(
        (answer) => { if (answer.event) this.receive(answer.event); },
        (error) => {
          if (sent.delivered) return;
          this.mark(sent, 'failed', error);
          if (error.status === 409 || error.status === 410) this.finish();
        },
      );
    }

    mark(sent, state, error = null) {
      sent.item.dataset.state = state;
      const reason = error?.status === 401 || error?.status === 403
        ? this.say('reload') : this.say(`error_${error?.code}`) || error?.status && error.message || '';
      sent.state.replaceChildren(`${this.say(state)}${reason ? ` ${reason}` : ''}`);
      if (state === 'failed' && error?.status !== 413 && !this.ended) {
        sent.state.append(' ', h('button', {
          type: 'button', class: 'plain', onclick: () => { this.input.focus(); this.deliver(sent); },
        }, this.say('retry')));
      }
      if (state !== 'sent') return;
      // "Sent" stands below the newest message only.
      if (this.lastSent && this.lastSent !== sent) this.lastSent.state.replaceChildren();
      this.lastSent = sent;
    }

    showEcho(event) {
      let sent = this.outbox.get(event.client_id);
      if (!sent) sent = this.userRow(event.text, event.time);
      sent.delivered = true;
      this.outbox.delete(event.client_id);
      this.mark(sent, 'sent');
      if (!this.loading) this.toBottom();
    }

    /** Tell a live agent that the visitor is typing; the server says when it stops. */
    typed() {
      this.input.dir = this.input.value ? 'auto' : ''; // empty, it goes with the page
      if (!CSS.supports('field-sizing', 'content')) {
        this.input.rows = Math.min(6, this.input.value.split('\n').length);
      }
      const now = performance.now();
      if (!this.live || this.ended || !this.input.value.trim() || now - this.typingSince < TYPING_EVERY) return;
      this.typingSince = now;
      this.post('typing', { state: 'started' }).catch(() => {});
    }

    // --- the end --------------------------------------------------------------------

    ask(open) {
      this.question.hidden = !open;
      this.composer.hidden = open;
      this.control().focus();
    }

    async endConversation() {
      if (this.endButton.disabled) return;
      this.endButton.disabled = true;
      try {
        const answer = await this.post('end', {});
        if (answer.event) this.receive(answer.event);
        this.finish();
      } catch (error) {
        if (error.status === 409 || error.status === 410) this.finish();
        else {
          this.ask(false);
          this.warn('unavailable', () => this.endConversation());
        }
      } finally {
        this.endButton.disabled = false;
      }
    }

    finish() {
      if (this.ended) return;
      const focused = this.shadowRoot.activeElement; // before anything that has it goes
      this.ended = true;
      this.disconnect();
      this.decide();
      this.showTyping(null);
      this.warn('');
      this.setStatus('');
      for (const row of this.items.querySelectorAll('.streaming')) row.classList.remove('streaming');
      for (const button of this.items.querySelectorAll('.state button')) button.remove();
      this.endButton.hidden = true;
      this.composer.hidden = true;
      this.question.hidden = true;
      this.closing.hidden = false;
      // Whoever was writing goes on from the same place; others keep theirs.
      if (focused && !this.panel.hidden && !this.log.contains(focused)) this.restartButton.focus();
      this.toBottom();
    }
  }

  if (!customElements.get('polysync-chat')) customElements.define('polysync-chat', PolysyncChat);

  if (script?.dataset.prefix !== undefined) {
    const target = script.dataset.target;
    const place = target ? document.querySelector(target) : document.body;
    if (!place) throw new Error(`polysync: nothing on the page matches data-target="${target}"`);
    const element = document.createElement('polysync-chat');
    Object.assign(element.dataset, script.dataset, { mode: target ? 'page' : 'launcher' });
    place.append(element);
  }
})();
