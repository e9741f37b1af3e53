"""The chat page that the Flask and the Django integration share.

Between the page (``static/polysync/chat.js`` and ``chat.css``, no build step) and
a framework's views stands a small HTTP contract, described in
`polysync.integrations.web.wire`. The modules here know no framework:

=================  ==========================================================
`.wire`            the contract; events as JSON and as server-sent events
`.feed`            one page's stream: what it has seen, where it resumes
`.bodies`          what the page posts, checked; errors as HTTP answers
`.render`          the agent's Markdown and HTML as safe HTML; safe addresses
`.embed`           the HTML that puts the widget into a page; its static files
=================  ==========================================================

Rendering needs ``markdown-it-py`` and ``nh3``, which the ``flask`` and ``django``
extras bring.
"""
