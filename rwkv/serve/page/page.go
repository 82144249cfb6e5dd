// Package page has the files of the chat page that package serve serves. Its style is that of examples/web's
// page as well.
package page

import "embed"

// Files are index.html, page.css and page.js.
//
//go:embed index.html page.css page.js
var Files embed.FS
