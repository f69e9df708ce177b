/** The elements of the explore page. */

import "../decisions.js";
import "./bulk.js";
import "./cluster_matrix.js";
import "./cut_chart.js";
import "./pair_filters.js";
import "./pair_rows.js";
import "./sample_map.js";
