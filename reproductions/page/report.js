document.querySelectorAll("table").forEach(t=>t.querySelectorAll("thead th").forEach((h,i)=>{
const b=document.createElement("button");b.append(...h.childNodes);h.append(b);
b.onclick=()=>{const up=h.ariaSort!="ascending",v=r=>{const c=r.cells[i],k=c.dataset.v;return k==null?c.textContent:k===""?NaN:+k},
o=(a,b)=>{const x=v(a),y=v(b);return x!==x?1:y!==y?-1:(x>y?1:x<y?-1:0)*(up?1:-1)};
t.querySelectorAll("th").forEach(e=>e.ariaSort=null);h.ariaSort=up?"ascending":"descending";
t.tBodies[0].append(...[...t.tBodies[0].rows].sort(o))}}));
addEventListener("beforeprint",()=>document.querySelectorAll("section>details").forEach(d=>d.open=true));
