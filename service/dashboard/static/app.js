/** The custom elements of all pages. */

import "./decisions.js";
import "./forms.js";
import "./jobs.js";
import "./manage.js";
import "./starter.js";
import "./upload.js";
